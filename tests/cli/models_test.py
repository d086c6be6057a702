"""kd suggest-shapes on the configs of real models: fields and numbers as their makers publish them.

A row of MODELS is (model, config, {op: {suite: sizes of one token}}); None for an op says that the
config has no sizes for it. Widths are written 4096, or (rows, width) where a token makes more rows
than one; sizes of rope are (H_Q, D_NOPE, D_ROPE).
"""
import json
import unittest

from tests.support.suggested import Folder, attention


def latent(config, nope, rope, kv_rank, q_rank):
    return {**config, "qk_nope_head_dim": nope, "qk_rope_head_dim": rope, "kv_lora_rank": kv_rank,
            "q_lora_rank": q_rank}


MODELS = [
    ("meta-llama/Llama-3.1-8B", attention(4096, 14336, 32, 8, model_type="llama", hidden_act="silu"),
     {"rmsnorm": {"model": 4096}, "swiglu": {"model": 14336}, "rope": None}),
    ("HuggingFaceTB/SmolLM2-135M", attention(576, 1536, 9, 3, model_type="llama"),
     {"rmsnorm": {"model": 576}, "swiglu": {"model": 1536}}),
    ("mistralai/Mistral-7B-v0.3", attention(4096, 14336, 32, 8, model_type="mistral"),
     {"rmsnorm": {"model": 4096}, "swiglu": {"model": 14336}}),
    ("mistralai/Mixtral-8x7B-v0.1",
     attention(4096, 14336, 32, 8, model_type="mixtral", num_local_experts=8, num_experts_per_tok=2),
     {"rmsnorm": {"model": 4096}, "swiglu": {"model": 14336, "routed": (2, 14336)}}),
    ("Qwen/Qwen2.5-7B", attention(3584, 18944, 28, 4, model_type="qwen2"),
     {"rmsnorm": {"model": 3584}, "swiglu": {"model": 18944}}),
    ("Qwen/Qwen2.5-VL-7B-Instruct",
     attention(3584, 18944, 28, 4, model_type="qwen2_5_vl",
               vision_config={"hidden_size": 1280, "intermediate_size": 3420}),
     {"rmsnorm": {"model": 3584}, "swiglu": {"model": 18944}}),
    ("Qwen/Qwen3-0.6B", attention(1024, 3072, 16, 8, 128, model_type="qwen3"),
     {"rmsnorm": {"model": 1024, "q_norm": (16, 128), "k_norm": (8, 128)}, "swiglu": {"model": 3072}}),
    ("Qwen/Qwen3-30B-A3B",
     attention(2048, 6144, 32, 4, 128, model_type="qwen3_moe", moe_intermediate_size=768,
               num_experts=128, num_experts_per_tok=8),
     {"rmsnorm": {"model": 2048, "q_norm": (32, 128), "k_norm": (4, 128)},
      "swiglu": {"model": 6144, "routed": (8, 768)}}),
    ("Qwen/Qwen2-57B-A14B",
     attention(3584, 18944, 28, 4, model_type="qwen2_moe", moe_intermediate_size=2560,
               shared_expert_intermediate_size=20480, num_experts=64, num_experts_per_tok=8),
     {"swiglu": {"model": 20480, "routed": (8, 2560), "dense": 18944}}),
    ("Qwen/Qwen3-Next-80B-A3B-Instruct",
     attention(2048, 5120, 16, 2, 256, model_type="qwen3_next", moe_intermediate_size=512,
               shared_expert_intermediate_size=512, num_experts=512, num_experts_per_tok=10),
     {"rmsnorm": {"model": 2048, "q_norm": (16, 256), "k_norm": (2, 256)},
      "swiglu": {"model": 512, "routed": (10, 512), "dense": 5120}}),
    ("google/gemma-2-9b",
     attention(3584, 14336, 16, 8, 256, model_type="gemma2", hidden_activation="gelu_pytorch_tanh"),
     {"rmsnorm": {"model": 3584}, "swiglu": {"model": 14336}}),
    ("google/gemma-3-4b-it",
     {"model_type": "gemma3", "vision_config": {"hidden_size": 1152},
      "text_config": attention(2560, 10240, 8, 4, 256, model_type="gemma3_text")},
     {"rmsnorm": {"model": 2560, "q_norm": (8, 256), "k_norm": (4, 256)}, "swiglu": {"model": 10240}}),
    ("google/gemma-3n-E4B-it",
     {"model_type": "gemma3n",
      "text_config": attention(2048, [16384] * 35, 8, 2, 256, model_type="gemma3n_text")},
     {"rmsnorm": {"model": 2048, "q_norm": (8, 256), "k_norm": (2, 256)}, "swiglu": {"model": 16384}}),
    ("microsoft/Phi-3-mini-4k-instruct", attention(3072, 8192, 32, model_type="phi3"),
     {"rmsnorm": {"model": 3072}, "swiglu": {"model": 8192}}),
    ("microsoft/phi-2", attention(2560, 10240, 32, model_type="phi", hidden_act="gelu_new"),
     {"rmsnorm": {"model": 2560}, "swiglu": {"model": 10240}}),
    ("openai-community/gpt2",
     {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_inner": None, "activation_function": "gelu_new"},
     {"rmsnorm": {"model": 768}, "rmsnorm_residual": {"model": 768}, "swiglu": None, "rope": None}),
    ("EleutherAI/gpt-neox-20b", attention(6144, 24576, 64, model_type="gpt_neox", hidden_act="gelu_fast"),
     {"rmsnorm": {"model": 6144}, "swiglu": {"model": 24576}}),
    ("mosaicml/mpt-7b", {"model_type": "mpt", "d_model": 4096, "n_heads": 32},
     {"rmsnorm": {"model": 4096}, "swiglu": None}),
    ("tiiuae/falcon-7b", {"model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71},
     {"rmsnorm": {"model": 4544}, "swiglu": None}),
    ("CohereForAI/c4ai-command-r-v01", attention(8192, 22528, 64, model_type="cohere"),
     {"rmsnorm": {"model": 8192}, "swiglu": {"model": 22528}}),
    ("stabilityai/stablelm-2-1_6b", attention(2048, 5632, 32, model_type="stablelm"),
     {"rmsnorm": {"model": 2048}, "swiglu": {"model": 5632}}),
    ("bigcode/starcoder2-7b",
     attention(4608, 18432, 36, 4, model_type="starcoder2", hidden_act="gelu_pytorch_tanh"),
     {"rmsnorm": {"model": 4608}, "swiglu": {"model": 18432}}),
    ("google/t5-v1_1-small", {"model_type": "t5", "d_model": 512, "d_ff": 1024, "num_heads": 6},
     {"rmsnorm": {"model": 512}, "swiglu": None}),
    ("internlm/internlm2-7b", attention(4096, 14336, 32, 8, model_type="internlm2"),
     {"rmsnorm": {"model": 4096}, "swiglu": {"model": 14336}}),
    ("OpenGVLab/InternVL2-8B",
     {"model_type": "internvl_chat", "vision_config": {"hidden_size": 1024, "intermediate_size": 4096},
      "llm_config": attention(4096, 14336, 32, 8, model_type="internlm2")},
     {"rmsnorm": {"model": 4096}, "swiglu": {"model": 14336}}),
    ("mistralai/Mistral-Small-3.1-24B-Instruct-2503",
     {"model_type": "mistral3", "vision_config": {"hidden_size": 1024, "intermediate_size": 4096},
      "text_config": attention(5120, 32768, 32, 8, 128, model_type="mistral")},
     {"rmsnorm": {"model": 5120}, "swiglu": {"model": 32768}}),
    ("Qwen/Qwen2.5-Omni-7B",
     {"model_type": "qwen2_5_omni",
      "thinker_config": {"model_type": "qwen2_5_omni_thinker", "audio_config": {"d_model": 1280},
                         "text_config": attention(3584, 18944, 28, 4, model_type="qwen2_5_omni_text")}},
     {"rmsnorm": {"model": 3584}, "swiglu": {"model": 18944}}),
    ("allenai/OLMo-2-1124-7B", attention(4096, 11008, 32, model_type="olmo2"),
     {"rmsnorm": {"model": 4096, "q_norm": 4096}, "swiglu": {"model": 11008}}),
    ("allenai/OLMoE-1B-7B-0924",
     attention(2048, 1024, 16, model_type="olmoe", num_experts=64, num_experts_per_tok=8),
     {"rmsnorm": {"model": 2048, "q_norm": 2048}, "swiglu": {"model": 1024, "routed": (8, 1024)}}),
    ("meta-llama/Llama-4-Scout-17B-16E",
     {"model_type": "llama4",
      "text_config": attention(5120, 8192, 40, 8, 128, model_type="llama4_text", use_qk_norm=True,
                               intermediate_size_mlp=16384, num_local_experts=16, num_experts_per_tok=1)},
     {"rmsnorm": {"model": 5120}, "swiglu": {"model": 8192, "dense": 16384}}),
    ("openai/gpt-oss-20b",
     attention(2880, 2880, 64, 8, 64, model_type="gpt_oss", num_local_experts=32, num_experts_per_tok=4),
     {"rmsnorm": {"model": 2880}, "swiglu": {"model": 2880, "routed": (4, 2880)}}),
    ("ibm-granite/granite-3.0-3b-a800m-base",
     attention(1536, 512, 24, 8, model_type="granitemoe", num_local_experts=40, num_experts_per_tok=8),
     {"rmsnorm": {"model": 1536}, "swiglu": {"model": 512, "routed": (8, 512)}}),
    ("MiniMaxAI/MiniMax-M2",
     attention(3072, 1536, 48, 8, 128, model_type="minimax_m2", use_qk_norm=True, qk_norm_type="per_layer",
               num_local_experts=256, num_experts_per_tok=8),
     {"rmsnorm": {"model": 3072, "q_norm": 6144, "k_norm": 1024},
      "swiglu": {"model": 1536, "routed": (8, 1536)}}),
    ("zai-org/GLM-4.5",
     attention(5120, 12288, 96, 8, 128, model_type="glm4_moe", use_qk_norm=True, n_shared_experts=1,
               moe_intermediate_size=1536, n_routed_experts=160, num_experts_per_tok=8),
     {"rmsnorm": {"model": 5120, "q_norm": (96, 128), "k_norm": (8, 128)},
      "swiglu": {"model": 12288, "routed": (8, 1536), "shared": 1536}, "rope": None}),
    ("LiquidAI/LFM2-1.2B",
     attention(2048, 12288, 32, 8, model_type="lfm2", block_ff_dim=12288, block_auto_adjust_ff_dim=True,
               block_multiple_of=256),
     {"rmsnorm": {"model": 2048, "q_norm": (32, 64), "k_norm": (8, 64)},
      "swiglu": {"model": 12288, "adjusted": 8192}}),
    ("LiquidAI/LFM2-8B-A1B",
     attention(2048, 7168, 32, 8, model_type="lfm2_moe", moe_intermediate_size=1792, num_experts=32,
               num_experts_per_tok=4),
     {"rmsnorm": {"model": 2048, "q_norm": (32, 64), "k_norm": (8, 64)},
      "swiglu": {"model": 7168, "routed": (4, 1792)}, "rope": None}),
    ("deepseek-ai/DeepSeek-V2-Lite",
     latent(attention(2048, 10944, 16, model_type="deepseek_v2", moe_intermediate_size=1408,
                      n_shared_experts=2, n_routed_experts=64, num_experts_per_tok=6), 128, 64, 512, None),
     {"rmsnorm": {"model": 2048, "kv_latent_norm": 512},
      "swiglu": {"model": 2816, "routed": (6, 1408), "dense": 10944},
      "rope": {"model": (16, 128, 64), "latent": (16, 512, 64)}}),
    ("deepseek-ai/DeepSeek-V3",
     latent(attention(7168, 18432, 128, model_type="deepseek_v3", moe_intermediate_size=2048,
                      n_shared_experts=1, n_routed_experts=256, num_experts_per_tok=8), 128, 64, 512, 1536),
     {"rmsnorm": {"model": 7168, "q_latent_norm": 1536, "kv_latent_norm": 512},
      "swiglu": {"model": 18432, "routed": (8, 2048), "shared": 2048},
      "rope": {"model": (128, 128, 64), "latent": (128, 512, 64)}}),
    ("moonshotai/Kimi-K2-Instruct",
     latent(attention(7168, 18432, 64, model_type="kimi_k2", moe_intermediate_size=2048, n_shared_experts=1,
                      n_routed_experts=384, num_experts_per_tok=8), 128, 64, 512, 1536),
     {"rope": {"model": (64, 128, 64), "latent": (64, 512, 64)}}),
    ("openbmb/MiniCPM3-4B",
     latent(attention(2560, 6400, 40, model_type="minicpm3"), 64, 32, 256, 768),
     {"rmsnorm": {"model": 2560, "q_latent_norm": 768, "kv_latent_norm": 256}, "swiglu": {"model": 6400},
      "rope": {"model": (40, 64, 32), "latent": (40, 256, 32)}}),
    ("google/gemma-4-26B-A4B",
     {"model_type": "gemma4", "vision_config": {"hidden_size": 1152},
      "text_config": attention(2816, 2112, 16, 8, 256, model_type="gemma4_text", hidden_activation="gelu_pytorch_tanh",
                               num_experts=128, top_k_experts=8, moe_intermediate_size=704,
                               per_layer_config={"05": {"head_dim": 512, "num_key_value_heads": 2}})},
     {"rmsnorm": {"model": 2816, "q_norm": (16, 256), "k_norm": (8, 256), "q_norm_512": (16, 512), "k_norm_512": (2, 512)},
      "swiglu": {"model": 2112, "routed": (8, 704)}}),
    ("baidu/ERNIE-4.5-VL-28B-A3B",
     attention(2560, 12288, 20, 4, model_type="ernie4_5_moe_vl", moe_intermediate_size=[1536, 512],
               moe_num_experts=[64, 64], moe_k=6, moe_num_shared_experts=2),
     {"rmsnorm": {"model": 2560}, "swiglu": {"model": 12288, "routed": (6, 1536), "routed_2": (6, 512)}}),
    ("meituan-longcat/LongCat-Flash-Lite",
     latent({"hidden_size": 3072, "ffn_hidden_size": 6144, "expert_ffn_hidden_size": 1024, "num_attention_heads": 32,
             "n_routed_experts": 256, "moe_topk": 12}, 128, 64, 512, 1536),
     {"rmsnorm": {"model": 3072, "q_latent_norm": 1536, "kv_latent_norm": 512},
      "swiglu": {"model": 6144, "routed": (12, 1024)}}),
    ("zai-org/GLM-4.7-Flash",
     latent(attention(2048, 10240, 20, model_type="glm4_moe_lite", moe_intermediate_size=1536,
                      n_shared_experts=1, n_routed_experts=64, num_experts_per_tok=4), 192, 64, 512, 768),
     {"rmsnorm": {"model": 2048, "q_latent_norm": 768, "kv_latent_norm": 512},
      "rmsnorm_residual": {"model": 2048},
      "swiglu": {"model": 1536, "routed": (4, 1536), "dense": 10240},
      "rope": {"model": (20, 192, 64), "latent": (20, 512, 64)}}),
]


def size_of_one_token(op, size):
    if op == "rope":
        return dict(zip(("B", "H_Q", "D_NOPE", "D_ROPE"), (1, *size)))
    rows, width = size if isinstance(size, tuple) else (1, size)
    return {"rows": rows, "D": width}


class Models(Folder):
    def test_sizes_of_every_model_are_what_its_layers_have(self):
        self.assertGreaterEqual(len(MODELS), 25)
        for model, config, expected in MODELS:
            with self.subTest(model):
                answer = self.json(config, "--decode-rows", "1")
                for op, suites in expected.items():
                    if suites is None:
                        self.assertIn(op, answer["skipped"])
                        continue
                    found = {suite["name"]: suite["sizes"] for suite in answer["ops"][op]["suites"]}
                    wanted = {name: [size_of_one_token(op, size)] for name, size in suites.items()}
                    self.assertEqual(found, wanted)

    def test_a_gate_or_a_norm_of_another_kind_is_said(self):
        for model, op, word in (("microsoft/phi-2", "rmsnorm", "LayerNorm"), ("google/gemma-2-9b", "swiglu", "gelu"),
                                ("openai-community/gpt2", "rmsnorm", "LayerNorm")):
            config = next(row[1] for row in MODELS if row[0] == model)
            self.assertIn(word, self.json(config)["ops"][op]["suites"][0]["reason"], model)
        plain = self.json(MODELS[0][1])["ops"]
        self.assertNotIn("LayerNorm", plain["rmsnorm"]["suites"][0]["reason"])
        self.assertNotIn("; but", plain["swiglu"]["suites"][0]["reason"])


    def test_reasons_name_the_fields_that_were_read_and_every_gate_of_another_kind(self):
        def reasons(model, **more):
            config = {**next(row[1] for row in MODELS if row[0] == model), **more}
            return {suite["name"]: suite["reason"] for suite in self.json(config)["ops"]["swiglu"]["suites"]}
        found = reasons("meituan-longcat/LongCat-Flash-Lite")
        self.assertEqual(found["model"], "ffn_hidden_size: the MLP")
        self.assertIn("expert_ffn_hidden_size: routed experts, moe_topk rows per token", found["routed"])
        self.assertIn("gelu_pytorch_tanh", reasons("google/gemma-4-26B-A4B")["routed"])
        relu2 = reasons("Qwen/Qwen3-30B-A3B", mlp_hidden_act="relu2")
        for suite in ("model", "routed"):
            self.assertIn("its gate is relu2, which no swiglu kernel serves", relu2[suite])

    def test_experts_have_sizes_under_every_name_of_their_counts(self):
        plain = attention(2560, 12288, 20, 4, model_type="some_moe", moe_intermediate_size=1536)
        wanted = {"router": {"E": 64, "top": 6}, "expert_combine": {"A": 6, "D": 2560},
                  "gather_matvec": {"A": 6, "E": 64, "N": 2560, "K": 1536},
                  "gather_matvec_gate_up": {"A": 6, "E": 64, "N": 1536, "K": 2560}}
        counts = [("num_experts", chosen) for chosen in ("num_experts_per_tok", "num_experts_per_token", "top_k_experts",
                                                         "experts_per_token", "moe_topk", "moe_k")]
        for count, chosen in counts + [(name, "moe_k") for name in ("num_local_experts", "n_routed_experts", "moe_num_experts")]:
            with self.subTest(count=count, chosen=chosen):
                found = self.json({**plain, count: 64, chosen: 6}, "--decode-rows", "1")["ops"]
                for op, sizes in wanted.items():
                    size = found[op]["suites"][0]["sizes"][0]
                    self.assertEqual({name: size[name] for name in sizes}, sizes, op)
        narrow = {name: value for name, value in plain.items() if name != "moe_intermediate_size"}
        found = self.json({**narrow, "n_routed_experts": 8, "moe_topk": 2, "expert_ffn_hidden_size": 512})["ops"]
        self.assertEqual(found["gather_matvec"]["suites"][0]["sizes"][0]["K"], 512)

    def test_weights_of_experts_are_those_that_the_models_code_makes(self):
        experts = {"num_experts": 64, "moe_k": 6, "moe_intermediate_size": 1536}
        for model_type, rule in (("ernie4_5_moe", {"scoring": 0, "normalise": 1}), ("some_moe", {"scoring": 0, "normalise": 0}),
                                 ("gemma4_text", {"scoring": 2, "normalise": 1})):
            config = attention(2560, 12288, 20, 4, model_type=model_type, **experts)
            size = self.json(config, "--decode-rows", "1")["ops"]["router"]["suites"][0]["sizes"][0]
            self.assertEqual({name: size[name] for name in rule}, rule, model_type)

    def test_products_with_a_gate_say_that_it_is_another_one(self):
        config = next(row[1] for row in MODELS if row[0] == "Qwen/Qwen3-30B-A3B")
        gated = ("matvec_gate_up", "gather_matvec_gate_up")
        for op in gated:
            self.assertNotIn("; but", self.json(config)["ops"][op]["suites"][0]["reason"])
        relu2 = self.json({**config, "mlp_hidden_act": "relu2"})["ops"]
        for op in gated:
            self.assertIn("its gate is relu2, which no product computes", relu2[op]["suites"][0]["reason"])
        self.assertEqual([size["D"] for size in relu2["relu2"]["sizes"]], 3 * [config["intermediate_size"]])


class Verb(Folder):
    CONFIG = MODELS[-1][1]

    def test_decode_rows_are_1_2_4_and_repeated_ones_count_once(self):
        def rows(*options):
            return [s["rows"] for s in self.json(self.CONFIG, *options)["ops"]["rmsnorm"]["sizes"]]
        self.assertEqual(rows(), [1, 2, 4])
        self.assertEqual(rows("--decode-rows", "8,1,8"), [8, 1])
        self.assertEqual(rows("--decode-rows", "8", "--decode-rows", "1,2"), [8, 1, 2])
        self.assertEqual(rows("--decode-rows", "1", "--prefill", "128,1024"), [1, 128, 1024])

    def test_prefill_is_no_batch_of_a_decode_op(self):
        answer = self.json(self.CONFIG, "--prefill", "128", "--op", "rope")
        self.assertEqual([size["B"] for size in answer["ops"]["rope"]["sizes"]], [1, 2, 4])

    def test_further_suites_are_taken_when_named(self):
        sizes = self.json(self.CONFIG, "--decode-rows", "1", "--op", "rope", "--include", "latent")["ops"]["rope"]["sizes"]
        self.assertEqual([size["D_NOPE"] for size in sizes], [192, 512])
        self.assertIn("routed", self.suggest(self.CONFIG, "--include", "nothing", code=2).stderr)

    def test_the_file_is_what_run_takes(self):
        out = self.folder / "sizes.json"
        printed = self.suggest(self.CONFIG, "--output", out)
        self.assertRegex(printed.stderr, r"Next: \S*kd run --op \w+ --shapes")
        run = self.folder / "run"
        self.kd("run", "--op", "rope", "--device", "null", "--budget", "2", "--shapes", out, "--out", run, "--quiet")
        meta = json.loads((run / "run_meta.json").read_text())
        self.assertEqual(len(meta["sizes"]), 3)
        self.assertIn("H_Q=20", meta["sizes"][0])

    def test_run_takes_the_sizes_of_a_model(self):
        (self.folder / "config.json").write_text(json.dumps(self.CONFIG))
        for number, shapes in enumerate(([], ["--shapes", "auto"])):
            run = self.folder / f"run{number}"
            self.kd("run", "--op", "swiglu", "--device", "null", "--budget", "2", "--out", run, "--quiet",
                    "--model-id", self.folder, "--decode-rows", "1,3", *shapes)
            meta = json.loads((run / "run_meta.json").read_text())
            self.assertEqual(meta["sizes"], ["rows=1,D=1536,N=1536", "rows=3,D=1536,N=4608"])
            self.assertEqual(meta["shape_suite"], f"model:{self.folder}")

    def test_run_refuses_two_sources_of_sizes_and_none(self):
        (self.folder / "config.json").write_text(json.dumps(self.CONFIG))
        common = ("run", "--op", "swiglu", "--device", "null", "--out", self.folder / "run")
        two = self.kd(*common, "--shapes", "rows=1,D=64", "--model-id", self.folder, code=2)
        self.assertIn("choose one", two.stderr)
        self.assertIn("--model-id", self.kd(*common, "--shapes", "auto", code=2).stderr)
        self.assertIn("--model-id", self.kd("suggest-shapes", code=2).stderr)
        self.assertFalse((self.folder / "run").exists())

    def test_options_of_a_model_need_one(self):
        common = ("run", "--op", "swiglu", "--device", "null", "--out", self.folder / "run")
        for option in (("--decode-rows", "1"), ("--prefill", "8"), ("--revision", "main"), ("--local-files-only",)):
            self.assertIn("--model-id", self.kd(*common, *option, code=2).stderr)
        self.assertFalse((self.folder / "run").exists())

    def test_json_goes_to_stdout_and_nothing_else(self):
        result = self.suggest(self.CONFIG, "--json")
        self.assertEqual(result.stderr, "")
        self.assertEqual(json.loads(result.stdout)["model"]["model_type"], "glm4_moe_lite")


class BadConfigs(Folder):
    def expect(self, config, *words, options=()):
        result = self.suggest(config, *options, code=2)
        self.assertEqual(result.stdout, "")
        for word in words:
            self.assertIn(word, result.stderr)

    def test_missing_fields_are_named(self):
        self.expect({"model_type": "x"}, "hidden_size", "n_embd", "d_model", options=("--op", "rmsnorm"))
        self.expect({"hidden_size": 64}, "intermediate_size", "ffn_hidden_size", options=("--op", "swiglu"))
        self.expect({"hidden_size": 64, "num_attention_heads": 4}, "qk_nope_head_dim", "qk_rope_head_dim", "MLA",
                    options=("--op", "rope"))
        self.expect({}, "num_attention_heads", "n_head")

    def test_values_that_are_no_sizes_are_shown(self):
        for value, shown in ((0, "0"), (-4, "-4"), (1.5, "1.5"), ("4096", '"4096"'), (2 ** 40, "1099511627776"),
                             (2 ** 70, ""), ([64, 128], "[64,128]"), ({}, "{}"), (True, "true")):
            self.expect({"hidden_size": value}, "hidden_size", shown, options=("--op", "rmsnorm"))

    def test_what_is_no_config_is_refused(self):
        self.expect("{", "not JSON")
        self.expect("", "JSON")
        self.expect("[1]", "not a model's config")
        self.expect('{"hidden_size": 64, "hidden_size": 65}', "hidden_size")
        self.expect("[" * 5000 + "]" * 5000, "config.json")
        self.expect(' ' * (16 << 20) + ' {"hidden_size": 64}', "config.json")

    def test_no_config_where_one_was_named(self):
        for name, word in ((self.folder, "no config.json"), (self.folder / "none", "there is no"),
                           ("./none", "there is no"), ("none.json", "there is no"), ("", "--model-id")):
            self.assertIn(word, self.kd("suggest-shapes", "--model-id", name, code=2).stderr)

    def test_rows_that_are_none(self):
        for text in ("0", "-1", "", "a", "1.5", "99999999999999999999", "1;2"):
            self.expect({"hidden_size": 64}, "--decode-rows" if text else "", options=("--decode-rows=" + text,))
        self.expect({"hidden_size": 64}, "--prefill", options=("--prefill", "x"))

    def test_sizes_that_no_memory_holds(self):
        self.expect({"hidden_size": 2 ** 31}, "2^47", options=("--op", "rmsnorm", "--decode-rows", str(2 ** 30)))


if __name__ == "__main__":
    unittest.main()
