"""kd tune-model on the null device: what it plans, keeps, resumes and refuses."""
import json
import math
import os
import re
import resource
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

KD = os.environ["MLX_KD_PROGRAM"]
LLAMA = {"model_type": "llama", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 320,
         "tie_word_embeddings": False, "torch_dtype": "float16", "quantization": {"group_size": 32, "bits": 4}}


class TuneModel(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="kd_tune_")
        self.addCleanup(temp.cleanup)
        self.folder = Path(temp.name)
        self.out = self.folder / "out"

    def config(self, **changes):
        path = self.folder / "config.json"
        path.write_text(json.dumps({k: v for k, v in {**LLAMA, **changes}.items() if v is not None}))
        return path

    def command(self, model, *options, device="null"):
        return [KD, "tune-model", str(model), "--config-only", "--out", str(self.out), "--device", device, "--quiet",
                *options]

    def tune(self, model, *options, code=0, device="null", **arguments):
        result = subprocess.run(self.command(model, *options, device=device), capture_output=True, text=True,
                                timeout=120, **arguments)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        return result

    def plan(self, **changes):
        """{use: (calls, first size)}"""
        lines = self.tune(self.config(**changes), "--plan").stdout.splitlines()[1:]
        return {line.split()[0]: (int(line.split()[1]), line.split()[2].rstrip(";")) for line in lines}

    def report(self):
        return json.loads((self.out / "report.json").read_text())

    def records(self, use, run):
        log = (self.out / "runs" / use["name"] / run / "run.ndjson").read_text().splitlines()
        return [record for record in map(json.loads, log) if record["event"] == "evaluation"]

    def gain_of(self, use):
        """How many times as fast as the default its kernel was in a search, at the first size."""
        record, = (record for record in self.records(use, "search") if record["candidate_id"] == use["candidate_id"])
        size, = (size for size in record["metrics"]["per_shape"] if size["shape"] == use["size"])
        return math.exp(-size["log_ratio"])

    def test_a_quantised_model_calls_quantised_products_as_often_as_it_has_layers(self):
        plan = self.plan()
        self.assertEqual(plan["qmatvec_qkv.model"][0], 3)
        self.assertEqual(plan["qmatvec_gate_up.model"][0], 3)
        self.assertEqual(plan["qmatvec.model"], (3, "M=1,N=128,K=256,bits=4,group=32,mode=0,has_norm=0,has_bias=0,"
                                                    "has_residual=1"))
        self.assertEqual(plan["qmatvec.head"], (1, "M=1,N=320,K=128,bits=4,group=32,mode=0,has_norm=0,has_bias=0,"
                                                   "has_residual=0"))
        self.assertEqual(plan["rmsnorm.model"], (1, "rows=1,D=128"))
        self.assertEqual(plan["rmsnorm.model.prompt"], (7, "rows=512,D=128"))
        self.assertEqual(plan["swiglu.model.prompt"], (3, "rows=512,D=256,N=131072"))
        self.assertEqual(plan["qgemm.gate_proj.prompt"][0], 6)  # gate and up have one size
        self.assertFalse([name for name in plan if name.startswith(("matvec", "gemm"))])

    def test_layers_without_experts_call_no_products_of_them(self):
        plan = self.plan(quantization=None, moe_num_experts=8, moe_k=2, moe_intermediate_size=64, moe_layer_start_index=1)
        for use in ("gather_matvec.model", "gather_matvec_gate_up.model", "router.model", "expert_combine.model"):
            self.assertEqual(plan[use][0], 2, use)

    def test_a_model_that_is_not_quantised_calls_the_others(self):
        plan = self.plan(quantization=None)
        self.assertEqual(plan["matvec.head"][0], 1)
        self.assertFalse([name for name in plan if name.startswith("q") and not name.startswith("qk_")])

    def test_layers_with_a_quantisation_of_their_own_are_uses_of_their_own(self):
        plan = self.plan(quantization={"group_size": 32, "bits": 4, "lm_head": False,
                                       "model.layers.1.mlp.down_proj": {"group_size": 32, "bits": 8},
                                       "model.layers.2.self_attn.v_proj": {"group_size": 32, "bits": 8}})
        self.assertEqual((plan["qmatvec.model"][0], plan["qmatvec.model_8bit"][0]), (2, 1))
        self.assertEqual(plan["qmatvec_qkv.model"][0], 2)  # where one differs, no call takes all three
        self.assertEqual(plan["matvec.head"][0], 1)
        self.assertNotIn("qmatvec.head", plan)

    def test_followed_models_need_no_network(self):
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(self.folder)}
        for model in ("GLM-4.7-Flash-4bit", "Qwen3-30B-A3B-4bit", "LFM2-8B-A1B-4bit", "LFM2-8B-A1B-8bit"):
            self.assertIn("qmatvec.head", self.tune("mlx-community/" + model, "--plan", env=environment).stdout)

    def test_all_is_found_reported_and_not_done_again(self):
        model = self.config()
        for budget in ("1s", "4s", "16s", "64s"):  # a larger one goes on in the same folder
            self.tune(model, "--time-budget", budget, "--rows", "1,2", "--prompt", "64")
            report = self.report()
            if any(use["searched"] for use in report["uses"]):
                break
        self.assertTrue(report["finished"])
        self.assertEqual(report["dtype"], "float16")
        for use in report["uses"]:
            self.assertGreater(use["evaluated"], 0, use)
            self.assertTrue(use.get("mlx_us", 0) > 0 or use["left"].startswith("no kernel passed: "), use)
        self.assertGreater(report["token"]["before_us"], report["token"]["after_us"])
        self.assertTrue(any(use["searched"] for use in report["uses"]))
        self.assertTrue(all(use["evaluated"] > 1 for use in report["uses"] if use["searched"]))
        for use in report["uses"]:
            if use["is_default"]:
                self.assertEqual(use["candidate_id"], self.records(use, "default")[0]["candidate_id"])
            elif use["mlx_us"] > use["us"]:
                self.assertGreaterEqual(self.gain_of(use), 1.05, use)
        html = (self.out / "report.html").read_text()
        self.assertIn("Where the time of a token goes", html)
        self.assertEqual(html.count("<svg"), 2)
        self.assertFalse((self.out / "pack.json").exists())  # its times are invented
        self.assertEqual(report["trial"]["why_not"], "the model's code was not run")
        self.assertIn("No trial was made (the model&#39;s code was not run): winners are in the pack that were 1.05 times", html)
        again = json.loads(self.tune(model, "--time-budget", budget, "--rows", "1,2", "--prompt", "64", "--json").stdout)
        self.assertEqual(again["uses"], report["uses"])

    def test_the_default_of_a_use_is_the_kernel_that_runs_without_a_pin(self):
        self.tune(self.config(), "--time-budget", "0.1s", "--prompt", "0", "--rows", "1")
        log = (self.out / "runs" / "qmatvec.model" / "default" / "run.ndjson").read_text().splitlines()
        knobs = json.loads(log[0])["template_params"]
        self.assertEqual((knobs["UNROLL"], knobs["PREFETCH"]), (1, 4096))  # the first values of their knobs

    def test_a_stopped_tuning_keeps_what_it_found_and_goes_on(self):
        model = self.config()
        running = subprocess.Popen(self.command(model, "--time-budget", "1h", "--prompt", "0"),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        state, end = self.out / "tune.json", time.time() + 60
        while time.time() < end and not (state.exists() and '"search"' in state.read_text()):
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
        self.assertEqual(running.returncode, 130, errors)
        self.assertIn("the same command continues", errors)
        before = self.report()
        self.assertFalse(before["finished"])
        found = {use["name"]: use["candidate_id"] for use in before["uses"] if use["evaluated"]}
        self.assertTrue(found)
        self.tune(model, "--time-budget", "0.1s", "--prompt", "0")  # defaults are tried whatever the limit
        after = {use["name"]: use for use in self.report()["uses"]}
        self.assertTrue(all(use["evaluated"] for use in after.values()))
        self.assertGreater(self.report()["seconds"], before["seconds"])

    def test_another_request_in_the_same_folder_is_refused(self):
        model = self.config()
        self.tune(model, "--time-budget", "0.1s", "--prompt", "0", "--rows", "1")
        refused = self.tune(model, "--time-budget", "0.1s", "--prompt", "0", "--rows", "1,4", code=2)
        self.assertIn("[discover]", refused.stderr)
        self.assertIn("rows [1]", refused.stderr)

    def test_what_cannot_be_meant(self):
        (self.folder / "empty").mkdir()
        (self.folder / "full").mkdir()
        (self.folder / "full" / "notes.txt").write_text("mine")
        model = self.config()
        for options, message in (((model, "--time-budget", "0"), "--time-budget '0' is not a duration"),
                                 ((model, "--time-budget", "soon"), "--time-budget 'soon' is not a duration"),
                                 ((model, "--rows", "1,x"), "--rows holds 'x'"),
                                 ((model, "--dtype", "int8"), "int8"),
                                 ((self.folder / "empty",), "there is no config.json in"),
                                 ((self.folder / "none.json",), "there is no")):
            self.assertIn(message, self.tune(*options, code=2).stderr)
        self.assertIn("device 'nope' is not known", self.tune(model, code=2, device="nope").stderr)
        self.assertFalse(self.out.exists())
        self.out = self.folder / "full"
        self.assertIn("holds other files", self.tune(model, code=2).stderr)

    def test_a_missing_field_is_named(self):
        for field in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
            refused = self.tune(self.config(**{field: None}), code=2)
            self.assertIn(f"'{field}'", refused.stderr)

    def test_a_compiler_that_cannot_be_used_ends_it_and_the_same_command_continues(self):
        model, options = self.config(), ("--time-budget", "0.1s", "--prompt", "0", "--rows", "1")
        empty = self.folder / "bin"
        empty.mkdir()
        cache = {"MLX_KD_CACHE_DIR": str(self.folder / "cache")}
        for variables, code, message in (({"PATH": str(empty), "CXX": ""}, 1, "there is no C++ compiler"),
                                         ({"MLX_KD_CXX": "/no/cxx"}, 2, "MLX_KD_CXX is '/no/cxx', which does not start"),
                                         ({"MLX_KD_KERNEL_OPT": "9"}, 2, "MLX_KD_KERNEL_OPT is '9': give 1, 2 or 3")):
            environment = {key: value for key, value in os.environ.items() if key != "MLX_KD_CXX"}
            refused = self.tune(model, *options, code=code, device="cpu", env={**environment, **cache, **variables})
            self.assertRegex(refused.stderr, r"(?m)^\[devices\] " + re.escape(message))
            self.assertNotIn('"default"', (self.out / "tune.json").read_text())
        self.assertFalse((self.out / "pack.json").exists())

    def test_a_full_disk_is_a_failure_that_says_so(self):
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))
        failed = self.tune(self.config(), "--time-budget", "1s", code=1, preexec_fn=limit)
        self.assertRegex(failed.stderr, r"^\[\w+\] .*: .*")


if __name__ == "__main__":
    unittest.main()
