"""Models of mlx-lm for tests: the package's code alone, without what it needs for tokenizers and downloads.

mlx-lm is taken from this Python if it is there in the version of requirements.txt, else from a folder of the build,
into which pip puts it at the first use (0.5 MB). Where that does not work the test that imports this is skipped.
"""
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import types
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from tests.support import on_demand

SOURCE = Path(os.environ["MLX_KD_SOURCE_DIR"])
VERSION = re.search(r"^mlx-lm==(\S+)$", (SOURCE / "requirements.txt").read_text(), re.MULTILINE).group(1)
FOLDER = Path(os.environ["MLX_KD_BUILD_DIR"]) / "front" / f"mlx_lm-{VERSION}"


class Anything(type):
    """A class that has every attribute: a function that does nothing."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **named: None


class Absent(types.ModuleType):
    """A package that is not needed here: every name in it is an empty class."""
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name, (), {})


skip = functools.partial(on_demand.skip, f"mlx-lm=={VERSION}")


def installed():
    try:
        return importlib.metadata.version("mlx-lm") == VERSION
    except importlib.metadata.PackageNotFoundError:
        return False


def place():
    """The package's folder becomes importable, without the modules that its own __init__ would import."""
    if sys.version_info < (3, 11):
        skip("it needs Python 3.11")
    if not installed():
        if not FOLDER.exists():
            on_demand.install(f"mlx-lm=={VERSION}", FOLDER, "--no-deps")
        sys.path.append(str(FOLDER))
    for name in ("transformers", "transformers.tokenization_utils_base", "numpy", "huggingface_hub", "yaml", "jinja2",
                 "tqdm", "sentencepiece"):
        if isinstance(sys.modules.get(name.partition(".")[0], Absent("")), Absent):
            sys.modules[name] = Absent(name)
    folder = Path(importlib.util.find_spec("mlx_lm").submodule_search_locations[0])
    for name, path in (("mlx_lm", folder), ("mlx_lm.tuner", folder / "tuner")):
        package = types.ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package


place()

SIZES = dict(hidden_size=128, num_hidden_layers=2, intermediate_size=256, num_attention_heads=4, num_key_value_heads=2,
             head_dim=32, rms_norm_eps=1e-5, vocab_size=300, rope_theta=10000.0, max_position_embeddings=512,
             tie_word_embeddings=True)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, decoder_sparse_step=1, moe_intermediate_size=64,
               norm_topk_prob=True)
LATENT = dict(n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, kv_lora_rank=32, q_lora_rank=64,
              qk_rope_head_dim=32, v_head_dim=32, qk_nope_head_dim=32, moe_intermediate_size=64,
              first_k_dense_replace=1, routed_scaling_factor=1.0, n_group=1, topk_group=1, norm_topk_prob=True,
              moe_layer_freq=1, attention_bias=False)
CONFIGS = {
    "llama": {},
    "qwen3": {},
    "qwen3_moe": dict(EXPERTS, mlp_only_layers=[0]),
    "gemma3_text": dict(query_pre_attn_scalar=32, sliding_window=8, sliding_window_pattern=2),
    "gpt_oss": dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=8, rope_scaling=None,
                    layer_types=["sliding_attention", "full_attention"]),
    "glm4_moe_lite": dict(LATENT, num_nextn_predict_layers=0, rope_scaling=None, partial_rotary_factor=1.0),
    "deepseek_v3": LATENT,
    "lfm2": dict(norm_eps=1e-5, conv_bias=False, conv_L_cache=3, block_dim=128, block_ff_dim=256,
                 block_multiple_of=64, block_ffn_dim_multiplier=1.0, block_auto_adjust_ff_dim=False,
                 full_attn_idxs=[1]),
    "qwen3_next": dict(EXPERTS, mlp_only_layers=[], linear_num_value_heads=4, linear_num_key_heads=2,
                       linear_key_head_dim=32, linear_value_head_dim=32, linear_conv_kernel_dim=4,
                       shared_expert_intermediate_size=64, partial_rotary_factor=0.5, full_attention_interval=2,
                       num_local_experts=4)}


def module(name):
    return importlib.import_module("mlx_lm.models." + name)


def make(family, *, bits=4, dtype=mx.bfloat16, seed=0, **changes):
    """A small model with random weights; bits=16: not quantised."""
    mx.random.seed(seed)
    code = module(family)
    config = {**SIZES, **CONFIGS[family], **changes, "model_type": family}
    model = code.Model(code.ModelArgs.from_dict(config))
    model.set_dtype(dtype)
    if bits < 16:
        nn.quantize(model, group_size=32, bits=bits)
    model.eval()
    mx.eval(model.parameters())
    return model


def decode(model, prompt=19, tokens=(5, 6, 7), cache=None):
    """Logits of a prompt's last token and of single tokens after it."""
    cache = cache or module("cache").make_prompt_cache(model)
    logits = [model(mx.array([list(range(1, prompt + 1))]), cache=cache)[:, -1]]
    logits += [model(mx.array([[token]]), cache=cache)[:, -1] for token in tokens]
    mx.eval(logits)
    return mx.concatenate(logits)


def tokens_of_batch(model, prompts, count=6, **more):
    """The tokens that BatchGenerator gives each prompt; `more` as its insert() takes it."""
    generator, found = importlib.import_module("mlx_lm.generate").BatchGenerator(model, max_tokens=count), {}
    ids = generator.insert(prompts, **more)
    while responses := generator.next_generated():
        for one in responses:
            found.setdefault(one.uid, []).append(one.token)
    generator.close()
    return [found[uid] for uid in ids]
