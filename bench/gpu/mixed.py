#!/usr/bin/env python3
"""Operators of decoding inside a model of MLX's operators on an NVIDIA GPU: each is MLX's or ours, the rest is MLX's.

    bench/gpu/mixed.py [--pack FILE] [--models llama-8b,qwen3-4b] [--bits 4,16] [--only NAME,...] [--layers 8]
                       [--keys 512] [--tokens 4] [--pairs 60] [--out FILE]

The model has decoder layers and the head of those sizes in bfloat16 (models.py), products of 4 or 16 bits, one row, that
many keys. Of each operator there is a pair of such models that differ in it alone. They take turns in one process, each for a
few tokens, of which the next is queued before the one before is waited for; who begins alternates. A row has the time
per token and layer of both by the host's clock, and the median over the pairs of the ratio of mlx_kd's time to MLX's,
with its 95 % interval. In the row `none` both models run MLX's operators. Without --pack operators run their default
kernels; with one, its pins alone. An operator is refused if MLX's form served a call of it.
"""
import argparse
import datetime
import sys
import time
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx_kd

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import models  # noqa: E402
from common import gpu_machine, rounded, spread, write_result  # noqa: E402

EPS, BASE = 1e-6, 5e5


@mx.compile
def mlx_gate(gate, up):  # as mlx-lm has it
    return nn.silu(gate) * up


class Operators:
    """A decoder's operators, all of them MLX's. Weights of products are tuples: elements, or codes, scales, biases."""

    def __init__(self, width, keys):
        self.width, self.scale, self.keys = width, width ** -0.5, keys

    def norm(self, x, weight):
        return mx.fast.rms_norm(x, weight, EPS)

    def gate(self, gate, up):
        return mlx_gate(gate, up)

    def rope(self, x):
        return mx.fast.rope(x, self.width, traditional=False, base=BASE, scale=1.0, offset=self.keys)

    def turned(self, q, k, weight):
        del weight
        return self.rope(q), self.rope(k)

    def attention(self, q, keys, values):
        return mx.fast.scaled_dot_product_attention(q, keys, values, scale=self.scale)

    def product(self, x, w):
        if len(w) == 1:
            return x @ w[0].T
        return mx.quantized_matmul(x, *w, transpose=True, group_size=models.GROUP, bits=4)

    def head(self, x, w):
        return self.product(x, w)

    def plus(self, x, w, residual):
        return residual + self.product(x, w)

    def queries(self, x, norm, weights):
        h = self.norm(x, norm)
        return [self.product(h, w) for w in weights]

    def gated(self, x, norm, gate, up):
        h = self.norm(x, norm)
        return self.gate(self.product(h, gate), self.product(h, up))

    def gated_sum(self, y, w, residual, norm, gate, up):
        """After attention: the stream, and the gated half of the feed-forward layer."""
        x = self.plus(y, w, residual)
        return x, self.gated(x, norm, gate, up)


class NormedHeads(Operators):
    """MLX's, with norms of queries and keys as Qwen3 has them."""

    def turned(self, q, k, weight):
        return self.rope(mx.fast.rms_norm(q, weight, EPS)), self.rope(mx.fast.rms_norm(k, weight, EPS))


def norm_of_sum(self, y, w, residual, norm, gate, up):
    h, x = mlx_kd.rmsnorm_residual(self.product(y, w), residual, norm, EPS)
    return x, self.gate(self.product(h, gate), self.product(h, up))


OURS = {
    "none": {},
    "rmsnorm": {"norm": lambda _, x, weight: mlx_kd.rmsnorm(x, weight, EPS)},
    "rmsnorm_residual": {"gated_sum": norm_of_sum},
    "swiglu": {"gate": lambda _, gate, up: mlx_kd.swiglu(gate, up)},
    "rope_standard": {"rope": lambda self, x: mlx_kd.rope_standard(x, self.keys, base=BASE)},
    "qk_norm_rope": {"turned": lambda self, q, k, weight: mlx_kd.qk_norm_rope(
        q, k, self.keys, weight, weight, eps=EPS, base=BASE)},
    "attention": {"attention": lambda self, q, keys, values: mlx_kd.attention(q, keys, values, scale=self.scale)}}
PRODUCTS = {
    "matvec": {"plus": lambda _, x, w, residual: mlx_kd.matvec(x, *w, residual=residual)},
    "matvec of the head": {"head": lambda _, x, w: mlx_kd.matvec(x, *w)},
    "matvec_qkv": {"queries": lambda _, x, norm, weights: mlx_kd.matvec_qkv(x, *sum(weights, ()), norm=norm, eps=EPS)},
    "matvec_gate_up": {"gated": lambda _, x, norm, gate, up: mlx_kd.matvec_gate_up(x, *gate, *up, norm=norm, eps=EPS)}}
PRODUCTS_OF_CODES = {
    "qmatvec": {"plus": lambda _, x, w, residual: mlx_kd.qmatvec(x, *w, residual=residual)},
    "qmatvec of the head": {"head": lambda _, x, w: mlx_kd.qmatvec(x, *w)},
    "qmatvec_qkv": {"queries": lambda _, x, norm, weights: mlx_kd.qmatvec_qkv(x, *sum(weights, ()), norm=norm, eps=EPS)},
    "qmatvec_gate_up": {"gated": lambda _, x, norm, gate, up: mlx_kd.qmatvec_gate_up(
        x, *gate, *up, norm=norm, eps=EPS)}}


def names_of(bits):
    """The operators of mlx_kd that a model with weights of this many bits can use."""
    return {**OURS, **(PRODUCTS if bits == 16 else PRODUCTS_OF_CODES)}


def sides(bits, width, keys):
    """Per operator that is measured: the model's operators with that of mlx_kd, and with MLX's alone."""
    found = {}
    for name, methods in names_of(bits).items():
        base = NormedHeads if name == "qk_norm_rope" else Operators
        found[name] = (type("Ours", (base,), methods)(width, keys), base(width, keys))
    return found


class Decoder:
    """Layers with one set of weights each and the keys of a prompt; the cache is not written."""

    def __init__(self, shape, bits, layers, keys):
        self.hidden, mlp = shape["hidden_size"], shape["intermediate_size"]
        self.heads, kv_heads = shape["num_attention_heads"], shape["num_key_value_heads"]
        self.width = shape["head_dim"]
        inner, kv = self.heads * self.width, kv_heads * self.width

        def random(*sizes):
            return (mx.random.normal(sizes) * sizes[-1] ** -0.5).astype(mx.bfloat16)

        def weights(*sizes):
            return (random(*sizes),) if bits == 16 else tuple(mx.quantize(random(*sizes), models.GROUP, 4))

        self.layers = [{"qkv": [weights(inner, self.hidden), weights(kv, self.hidden), weights(kv, self.hidden)],
                        "o": weights(self.hidden, inner), "gate": weights(mlp, self.hidden),
                        "up": weights(mlp, self.hidden), "down": weights(self.hidden, mlp),
                        "keys": random(1, kv_heads, keys, self.width), "values": random(1, kv_heads, keys, self.width),
                        "norm": mx.ones(self.hidden, mx.bfloat16), "norm2": mx.ones(self.hidden, mx.bfloat16),
                        "heads": mx.ones(self.width, mx.bfloat16)} for _ in range(layers)]
        self.head = weights(shape["vocab_size"], self.hidden)
        mx.eval(self.layers, self.head)

    def __call__(self, x, ops):
        """The stream after the layers, with a trace of the head's product so that it is needed."""
        def heads(y):
            return y.reshape(1, 1, -1, self.width).transpose(0, 2, 1, 3)

        for w in self.layers:
            q, k, v = ops.queries(x, w["norm"], w["qkv"])
            q, k = ops.turned(heads(q), heads(k), w["heads"])
            y = ops.attention(q, w["keys"], w["values"]).transpose(0, 2, 1, 3).reshape(1, 1, -1)
            y = y + mx.mean(k) * mx.mean(v)  # that they are needed
            x, h = ops.gated_sum(y, w["o"], x, w["norm2"], w["gate"], w["up"])
            x = ops.plus(h, w["down"], x)
        return x + mx.max(ops.head(x, self.head)) * 1e-3


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
    x = mx.random.normal((1, 1, model.hidden)).astype(mx.bfloat16)
    model(x, ours)  # kernels are loaded, or it is known that there is no pin
    hits, others = served()
    if name != "none" and (hits == 0 or others > 0):
        return {"op": name, "reason": f"{hits} of {hits + others} calls ran a kernel of mlx_kd"}
    for ops in (ours, mlx) * 3:
        run(model, ops, x, args.tokens)
    difference = mx.abs(model(x, ours) - model(x, mlx)).max() / mx.abs(model(x, mlx)).max()
    times = []
    for pair in range(args.pairs):
        order = (ours, mlx) if pair % 2 else (mlx, ours)
        found = {ops: run(model, ops, x, args.tokens) for ops in order}
        times.append((found[ours], found[mlx]))
    return {"op": name, "ours_us": spread([a for a, _ in times]), "mlx_us": spread([b for _, b in times]),
            "ratio": spread([a / b for a, b in times]), "difference": difference.item()}


def rows_of(args, name, bits, only):
    model = Decoder(models.MODELS[name], bits, args.layers, args.keys)
    rows = []
    for op, (ours, mlx) in sides(bits, model.width, args.keys).items():
        if only and op not in only:
            continue
        rows.append({"model": name, "bits": bits, "keys": args.keys, **measure(args, model, op, ours, mlx)})
        print(rounded(rows[-1]), file=sys.stderr, flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pack", help="pins in the place of default kernels")
    parser.add_argument("--models", default="llama-8b")
    parser.add_argument("--bits", default="16", help="4, 16 or both")
    parser.add_argument("--only", help="operators")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--keys", type=int, default=512, help="of the context")
    parser.add_argument("--tokens", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--out", default="-", help="a file, or - for stdout")
    args = parser.parse_args()
    names, all_bits = args.models.split(","), [int(bits) for bits in args.bits.split(",")]
    if unknown := [name for name in names if "num_experts" in models.MODELS.get(name, {"num_experts": 0})]:
        parser.error(f"--models has {', '.join(unknown)}: give llama-8b, qwen3-4b or both")
    known = {op for bits in all_bits for op in names_of(bits)}
    only = args.only.split(",") if args.only else []
    if unknown := [op for op in only if op not in known]:
        parser.error(f"--only has {', '.join(unknown)}: give names of {', '.join(sorted(known))}")
    if args.pack:
        mlx_kd.configure(enabled=True, path=args.pack, wait_for_compile=True)
    else:
        ops = {op.split()[0] for op in known} - {"none"}
        mlx_kd.configure(default_kernels=sorted(ops), wait_for_compile=True)
    mx.random.seed(0)
    rows = [row for name in names for bits in all_bits for row in rows_of(args, name, bits, only)]
    result = {"what": "an operator inside a decoder of MLX's operators, bfloat16, one row: us per token and layer",
              "machine": {**gpu_machine(), "mlx": mx.__version__},
              "date": datetime.datetime.now().isoformat(timespec="seconds"), "layers": args.layers,
              "tokens": args.tokens, "kernels": "pins" if args.pack else "default", "rows": rounded(rows)}
    write_result(result, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
