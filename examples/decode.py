"""A small Llama-like decoder with mlx_kd's layers: the same logits with pins as without, in less time.

    MLX_KD_USE_DISCOVERED_KERNELS=1 MLX_KD_DISCOVERED_KERNELS_PATH=pins.json python examples/decode.py

It decodes twice, with pins off and as the environment says, and compares. --config writes a config.json of
its sizes, for `mlx-kd run --model-id FOLDER`. Exit status 1 if the logits differ by more than the bound.
"""
import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

import mlx_kd
import mlx_kd.nn


@dataclass
class Config:
    """Names as in a model's config.json."""

    model_type: str = "llama"
    hidden_size: int = 1024
    intermediate_size: int = 2816
    num_hidden_layers: int = 4
    num_attention_heads: int = 8
    vocab_size: int = 2048
    rms_norm_eps: float = 1e-6
    hidden_act: str = "silu"


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads = config.num_attention_heads
        self.head_dim = config.hidden_size // self.heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.out = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.rope = nn.RoPE(self.head_dim)

    def __call__(self, x, cache):
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, self.head_dim).transpose(2, 0, 3, 1, 4)
        offset = cache[0].shape[2] if cache else 0
        q, k, v = self.rope(qkv[0], offset=offset), self.rope(qkv[1], offset=offset), qkv[2]
        if cache:
            k, v = mx.concatenate([cache[0], k], 2), mx.concatenate([cache[1], v], 2)
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.head_dim ** -0.5)
        return self.out(y.transpose(0, 2, 1, 3).reshape(batch, length, width)), (k, v)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention = Attention(config)
        self.attention_norm = mlx_kd.nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp_norm = mx.ones(config.hidden_size)
        self.eps = config.rms_norm_eps
        self.gate_up = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def __call__(self, x, cache):
        attended, cache = self.attention(self.attention_norm(x), cache)
        y, x = mlx_kd.rmsnorm_residual(x, attended, self.mlp_norm, self.eps)
        gate, up = mx.split(self.gate_up(y), 2, axis=-1)
        return x + self.down(mlx_kd.swiglu(gate, up)), cache


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [Layer(config) for _ in range(config.num_hidden_layers)]
        self.norm = mlx_kd.nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def __call__(self, tokens, caches):
        x = self.embedding(tokens)
        for number, layer in enumerate(self.layers):
            x, caches[number] = layer(x, caches[number])
        return self.embedding.as_linear(self.norm(x))


def decode(model, config, steps):
    """Logits (steps, vocabulary) of a fixed row of tokens, one step per evaluation."""
    caches, logits = [None] * config.num_hidden_layers, []
    for step in range(steps):
        logits.append(model(mx.array([[step * 37 % config.vocab_size]]), caches)[0, 0])
        mx.eval(logits[-1], caches)
    return mx.stack(logits)


def bound(config, dtype):
    """How far logits may be apart, as a share of the largest: to first order, each layer passes errors on unchanged.

    An op with r roundings to the type and a accumulated errors of float32 is within r u + a u32 of the exact
    result (`kd ops --json` derives r and a), so two implementations are within twice that of each other.
    """
    u32 = 2.0 ** -24
    u = {mx.float32: u32, mx.float16: 2.0 ** -11, mx.bfloat16: 2.0 ** -8}[dtype]
    scale = 3 * config.hidden_size ** 0.5 + 8
    layer = (2 * u + scale * u32) + (4 * u + scale * u32) + (u + 12 * u32)
    return 2 * (config.num_hidden_layers * layer + 2 * u + scale * u32)


def time_ops(config, dtype, rounds=15, calls=50):
    """us of one layer's ops with pins off and on: medians of alternating samples, many calls in one evaluation."""
    x, w = mx.random.normal((1, 1, config.hidden_size)).astype(dtype), mx.ones(config.hidden_size, dtype)
    gate = mx.random.normal((1, 1, config.intermediate_size)).astype(dtype)

    def sample():
        start = time.perf_counter()
        mx.eval([(mlx_kd.rmsnorm(x, w, config.rms_norm_eps), mlx_kd.swiglu(gate, gate),
                  *mlx_kd.rmsnorm_residual(x, x, w, config.rms_norm_eps)) for _ in range(calls)])
        return (time.perf_counter() - start) / calls * 1e6

    times = {False: [], True: []}
    for _ in range(rounds):
        for pinned in times:
            mlx_kd.configure(enabled=pinned)
            times[pinned].append(sample())
    return statistics.median(times[False]), statistics.median(times[True])


def type_of_pins():
    """Name of the element type that most pins in effect are for."""
    types = [pin["dtype"] for pin in mlx_kd.stats()["pins"]]
    return max(types, key=types.count, default="float32")


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=16, help="tokens to decode")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"],
                        help="of the weights; that of most pins if left out, without pins float32")
    parser.add_argument("--config", metavar="FOLDER", type=Path, help="write FOLDER/config.json and end")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args()


def compare(config, dtype, steps):
    mx.random.seed(0)
    model = Decoder(config)
    model.set_dtype(dtype)
    pins_wanted = mlx_kd.settings()["enabled"]
    mlx_kd.disable()
    expected = decode(model, config, steps).astype(mx.float32)
    mlx_kd.configure(enabled=pins_wanted, wait_for_compile=True)
    mlx_kd.reset_stats()
    logits = decode(model, config, steps).astype(mx.float32)
    stats = mlx_kd.stats()
    plain_us, pinned_us = time_ops(config, dtype) if pins_wanted else (None, None)
    return {"difference": mx.abs(logits - expected).max().item(),
            "bound": bound(config, dtype) * mx.abs(expected).max().item(),
            "same_tokens": mx.array_equal(logits.argmax(-1), expected.argmax(-1)).item(),
            "ops_us_mlx": plain_us, "ops_us_pinned": pinned_us, "stats": stats}


def show(result):
    print(f"logits differ by at most {result['difference']:.3g} (bound {result['bound']:.3g}); "
          f"{'the same' if result['same_tokens'] else 'other'} tokens")
    if result["ops_us_mlx"]:
        print(f"a layer's norms and gate: {result['ops_us_mlx']:.1f} us with MLX, "
              f"{result['ops_us_pinned']:.1f} us with pins")
    stats = result["stats"]
    print(f"{stats['hits']} calls hit a pin, {stats['misses']} missed, {stats['fallbacks']} fell back")
    for miss in stats["missed"]:
        print(f"  missed {miss['op']} {miss['dtype']} {miss['shape']}: {miss['differs'] or 'the pack has no pin of it'}")


def main():
    options, config = read_options(), Config()
    if options.config:
        options.config.mkdir(parents=True, exist_ok=True)
        (options.config / "config.json").write_text(json.dumps(asdict(config), indent=1))
        return 0
    result = compare(config, getattr(mx, options.dtype or type_of_pins()), options.steps)
    print(json.dumps(result, indent=1)) if options.json else show(result)
    return 0 if result["difference"] <= result["bound"] else 1


if __name__ == "__main__":
    sys.exit(main())
