#!/usr/bin/env python3
"""Operators of decoding inside a model of MLX's operators on an NVIDIA GPU: each is MLX's or ours, the rest is MLX's.

    bench/gpu/mixed.py [--pack FILE] [--only NAME,...] [--layers 8] [--tokens 4] [--pairs 60] [--out FILE]

The model has decoder layers of llama-8b's sizes in bfloat16, one row, 512 keys. Of each operator there is a pair of
such models that differ in it alone. They take turns in one process, each for a few tokens, of which the next is queued
before the one before is waited for; who begins alternates. A row has the host's time per token and layer of both, and
the median over the pairs of the ratio of mlx_kd's time to MLX's, with its 95 % interval. In the row `none` both models
run MLX's operators. Without --pack operators run their default kernels; with one, its pins alone. An operator is
refused if MLX's form served a call of it.
"""
import argparse
import datetime
import sys
import time
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx_kd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import gpu_machine, rounded, spread, write_result  # noqa: E402

HIDDEN, MLP, HEADS, KV_HEADS, WIDTH, KEYS, EPS, BASE = 4096, 14336, 32, 8, 128, 512, 1e-5, 5e5
SCALE = WIDTH ** -0.5


@mx.compile
def mlx_gate(gate, up):  # as mlx-lm has it
    return nn.silu(gate) * up


class Operators:
    """A decoder's operators, all of them MLX's."""

    def norm(self, x, weight):
        return mx.fast.rms_norm(x, weight, EPS)

    def norm_of_sum(self, x, residual, weight):
        total = x + residual
        return mx.fast.rms_norm(total, weight, EPS), total

    def gate(self, gate, up):
        return mlx_gate(gate, up)

    def rope(self, x):
        return mx.fast.rope(x, WIDTH, traditional=False, base=BASE, scale=1.0, offset=KEYS)

    def turned(self, q, k, weight):
        del weight
        return self.rope(q), self.rope(k)

    def attention(self, q, keys, values):
        return mx.fast.scaled_dot_product_attention(q, keys, values, scale=SCALE)

    def product(self, x, weight):
        return x @ weight.T


class NormedHeads(Operators):
    """MLX's, with norms of queries and keys as Qwen3 has them."""

    def turned(self, q, k, weight):
        return self.rope(mx.fast.rms_norm(q, weight, EPS)), self.rope(mx.fast.rms_norm(k, weight, EPS))


def ours_for(base, **methods):
    return type("Ours", (base,), methods)()


def sides():
    """Per operator that is measured: the model's operators with that of mlx_kd, and with MLX's alone."""
    plain, normed = Operators(), NormedHeads()
    return {
        "none": (Operators(), plain),
        "rmsnorm": (ours_for(Operators, norm=lambda _, x, weight: mlx_kd.rmsnorm(x, weight, EPS)), plain),
        "rmsnorm_residual": (ours_for(Operators, norm_of_sum=lambda _, x, residual, weight: mlx_kd.rmsnorm_residual(
            x, residual, weight, EPS)), plain),
        "swiglu": (ours_for(Operators, gate=lambda _, gate, up: mlx_kd.swiglu(gate, up)), plain),
        "rope_standard": (ours_for(Operators, rope=lambda _, x: mlx_kd.rope_standard(x, KEYS, base=BASE)), plain),
        "qk_norm_rope": (ours_for(NormedHeads, turned=lambda _, q, k, weight: mlx_kd.qk_norm_rope(
            q, k, KEYS, weight, weight, eps=EPS, base=BASE)), normed),
        "attention": (ours_for(Operators, attention=lambda _, q, keys, values: mlx_kd.attention(
            q, keys, values, scale=SCALE)), plain),
        "matvec": (ours_for(Operators, product=lambda _, x, weight: mlx_kd.matvec(x, weight)), plain)}


class Decoder:
    """Layers with one set of weights each and the keys of a prompt; the cache is not written."""

    def __init__(self, layers):
        def weights(*shape):
            return (mx.random.normal(shape) * shape[-1] ** -0.5).astype(mx.bfloat16)

        kv = KV_HEADS * WIDTH
        self.layers = [{"q": weights(HIDDEN, HIDDEN), "k": weights(kv, HIDDEN), "v": weights(kv, HIDDEN),
                        "o": weights(HIDDEN, HIDDEN), "gate": weights(MLP, HIDDEN), "up": weights(MLP, HIDDEN),
                        "down": weights(HIDDEN, MLP), "keys": weights(1, KV_HEADS, KEYS, WIDTH),
                        "values": weights(1, KV_HEADS, KEYS, WIDTH), "norm": mx.ones(HIDDEN, mx.bfloat16),
                        "norm2": mx.ones(HIDDEN, mx.bfloat16), "heads": mx.ones(WIDTH, mx.bfloat16)}
                       for _ in range(layers)]
        mx.eval(self.layers)

    def __call__(self, x, ops):
        def heads(y, count):
            return y.reshape(1, 1, count, WIDTH).transpose(0, 2, 1, 3)

        for w in self.layers:
            h = ops.norm(x, w["norm"])
            q, k, v = (ops.product(h, w[name]) for name in ("q", "k", "v"))
            q, k = ops.turned(heads(q, HEADS), heads(k, KV_HEADS), w["heads"])
            y = ops.attention(q, w["keys"], w["values"]).transpose(0, 2, 1, 3).reshape(1, 1, HIDDEN)
            y = y + mx.mean(k) * mx.mean(v)  # that they are needed
            h, x = ops.norm_of_sum(ops.product(y, w["o"]), x, w["norm2"])
            x = x + ops.product(ops.gate(ops.product(h, w["gate"]), ops.product(h, w["up"])), w["down"])
        return x


def run(model, ops, x, tokens):
    """us per token and layer."""
    start = time.perf_counter()
    x = model(x, ops)
    mx.async_eval(x)
    for _ in range(tokens):
        before, x = x, model(x, ops)
        mx.async_eval(x)
        mx.eval(before)
    mx.eval(x)
    return (time.perf_counter() - start) / (tokens + 1) / len(model.layers) * 1e6


def served():
    """How many calls since the last reset ran a kernel of mlx_kd, and how many did not."""
    counts = mlx_kd.stats()
    ours = counts["hits"] + counts["defaults"]
    return ours, counts["calls"] - ours


def measure(args, model, name, ours, mlx):
    mlx_kd.reset_stats()
    x = mx.random.normal((1, 1, HIDDEN)).astype(mx.bfloat16)
    for ops in (ours, mlx) * 3:
        run(model, ops, x, args.tokens)
    difference = mx.abs(model(x, ours) - model(x, mlx)).max() / mx.abs(model(x, mlx)).max()
    times = []
    for pair in range(args.pairs):
        order = (ours, mlx) if pair % 2 else (mlx, ours)
        found = {ops: run(model, ops, x, args.tokens) for ops in order}
        times.append((found[ours], found[mlx]))
    hits, others = served()
    if name != "none" and (hits == 0 or others > 0):
        return {"op": name, "reason": f"{hits} of {hits + others} calls ran a kernel of mlx_kd"}
    return {"op": name, "ours_us": spread([a for a, _ in times]), "mlx_us": spread([b for _, b in times]),
            "ratio": spread([a / b for a, b in times]), "difference": difference.item()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pack", help="pins in the place of default kernels")
    parser.add_argument("--only", help="operators")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--out", default="-", help="a file, or - for stdout")
    args = parser.parse_args()
    chosen = sides()
    if args.only:
        names = args.only.split(",")
        if unknown := [name for name in names if name not in chosen]:
            parser.error(f"--only has {', '.join(unknown)}: give names of {', '.join(chosen)}")
        chosen = {name: chosen[name] for name in names}
    if args.pack:
        mlx_kd.configure(enabled=True, path=args.pack, wait_for_compile=True)
    else:
        mlx_kd.configure(default_kernels=[name for name in chosen if name != "none"], wait_for_compile=True)
    mx.random.seed(0)
    model, rows = Decoder(args.layers), []
    for name, (ours, mlx) in chosen.items():
        rows.append(measure(args, model, name, ours, mlx))
        print(rows[-1], file=sys.stderr, flush=True)
    result = {"what": "an operator inside a decoder of MLX's operators, bfloat16, one row: us per token and layer",
              "machine": {**gpu_machine(), "mlx": mx.__version__},
              "date": datetime.datetime.now().isoformat(timespec="seconds"), "layers": args.layers,
              "tokens": args.tokens, "kernels": "pins" if args.pack else "default", "rows": rounded(rows)}
    write_result(result, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
