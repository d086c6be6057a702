#!/usr/bin/env python3
"""Chosen experts of a prompt on an NVIDIA GPU: mlx_kd, MLX, a dense product of as many operations, and one read of W.

    bench/gpu/prefill.py [--tokens 1024] [--bits 16,4] [--rounds 9] [--us 20000] [--sides mlx_kd,MLX] [--out FILE]

The sizes are those of a layer of qwen3-30b-a3b in bfloat16: 8 of 128 experts a token at random, which map 2,048 numbers
to 768 and back. Run it with a Python that has mlx_kd on an MLX with CUDA, and PyTorch. A row is the gate and up with
their activation (`in`), the product back (`out`), or both one after the other (`layer`). mlx_kd runs its default
kernels; MLX sorts the tokens by expert, multiplies and puts them back, as mlx-lm does for prompts. Sides take turns in
random order; a sample queues as many calls as take about --us microseconds. The dense product is PyTorch's (cuBLAS) of
as many rows as there are pairs of token and expert. The read is PyTorch's sum of as many bytes as W has. Both are timed
by events in the same run. `of_goal` is mlx_kd's time over the longer of the two, `difference` that of 16 tokens to
float32.
"""
import argparse
import datetime
import random
import sys
import time
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import torch

import mlx_kd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import gpu_machine, mlx_us, rounded, spread, torch_us, write_result  # noqa: E402

EXPERTS, CHOSEN, HIDDEN, WIDE, GROUP = 128, 8, 2048, 768, 64
KERNELS = ["gather_gemm", "gather_gemm_gate_up", "gather_qgemm", "gather_qgemm_gate_up"]
PARTS = ("in", "out", "layer")
CHECKED, MOST_OFF = 16, 0.05  # tokens compared with float32, and what they may be off of the largest value
MOST = 16  # calls of a sample, whose results are held


def matrix(rows, columns, bits):
    """Of all experts: numbers, or codes, scales and biases."""
    w = (columns ** -0.5 * mx.random.normal((EXPERTS, rows, columns))).astype(mx.bfloat16)
    made = [w] if bits == 16 else list(mx.quantize(w, group_size=GROUP, bits=bits))
    mx.eval(made)
    return made


class Layer:
    """A layer's experts, and a prompt for them."""

    def __init__(self, tokens, bits):
        mx.random.seed(7)
        self.bits = bits
        self.gate, self.up = matrix(WIDE, HIDDEN, bits), matrix(WIDE, HIDDEN, bits)
        self.down = matrix(HIDDEN, WIDE, bits)
        self.x = mx.random.normal((tokens, HIDDEN)).astype(mx.bfloat16)
        self.ids = mx.argsort(mx.random.uniform(shape=(tokens, EXPERTS)), axis=-1)[:, :CHOSEN].astype(mx.uint32)
        self.between = mx.random.normal((tokens, CHOSEN, WIDE)).astype(mx.bfloat16)
        mx.eval(self.x, self.ids, self.between)

    def bytes_of(self, part):
        of_in, of_out = (sum(a.nbytes for w in matrices for a in w) for matrices in ((self.gate, self.up), (self.down,)))
        return {"in": of_in, "out": of_out, "layer": of_in + of_out}[part]

    def kd_in(self):
        call = mlx_kd.gather_gemm_gate_up if self.bits == 16 else mlx_kd.gather_qgemm_gate_up
        return call(self.x[:, None], self.ids, *self.gate, *self.up)

    def kd_out(self, x):
        call = mlx_kd.gather_gemm if self.bits == 16 else mlx_kd.gather_qgemm
        return call(x, self.ids, *self.down)

    def mlx_product(self, x, w, ids):
        if self.bits == 16:
            return mx.gather_mm(x, w[0].swapaxes(-1, -2), rhs_indices=ids, sorted_indices=True)
        return mx.gather_qmm(x, *w, rhs_indices=ids, transpose=True, group_size=GROUP, bits=self.bits,
                             sorted_indices=True)

    def sorted_by_expert(self):
        ids = self.ids.flatten()
        order = mx.argsort(ids)
        return ids[order], order, mx.argsort(order)

    def gated(self, x, ids):
        return nn.silu(self.mlx_product(x, self.gate, ids)) * self.mlx_product(x, self.up, ids)

    def mlx_in(self):
        ids, order, back = self.sorted_by_expert()
        return self.gated(self.x[order // CHOSEN][:, None], ids)[back]

    def mlx_out(self):
        ids, order, back = self.sorted_by_expert()
        return self.mlx_product(self.between.reshape(-1, WIDE)[order][:, None], self.down, ids)[back]

    def mlx_layer(self):
        ids, order, back = self.sorted_by_expert()
        return self.mlx_product(self.gated(self.x[order // CHOSEN][:, None], ids), self.down, ids)[back]

    def calls(self, part):
        """{side: a call}."""
        ours = {"in": self.kd_in, "out": lambda: self.kd_out(self.between), "layer": lambda: self.kd_out(self.kd_in())}
        mlx = {"in": self.mlx_in, "out": self.mlx_out, "layer": self.mlx_layer}
        return {"mlx_kd": ours[part], "MLX": mlx[part]}


def least_us(part, pairs, bytes_of_w):
    """us of the dense product and of the read: medians of samples of many calls."""
    shapes = {"in": [(HIDDEN, 2 * WIDE)], "out": [(WIDE, HIDDEN)]}
    dense = 0.0
    for k, n in shapes.get(part, shapes["in"] + shapes["out"]):
        x, w = (torch.randn(rows, k, device="cuda").bfloat16() for rows in (pairs, n))
        dense += sampled(lambda x=x, w=w: x @ w.T)
    read = sampled(torch.zeros(bytes_of_w // 4, device="cuda").sum)
    return {"dense_us": dense, "read_us": read, "read_gbps": 1e-3 * bytes_of_w / read}


def sampled(call):
    torch_us(call, 5)
    return spread([torch_us(call, 20) for _ in range(9)])["median"]


def times_of(calls, args):
    counts, times = {}, {side: [] for side in calls}
    for side, call in calls.items():
        mlx_us(call, 3)
        counts[side] = max(2, min(MOST, int(args.us / mlx_us(call, 3))))
    for _ in range(args.rounds):
        for side in random.sample(list(calls), len(calls)):
            times[side].append(mlx_us(calls[side], counts[side]))
    return times


def exact(layer, part, token):
    """The results (CHOSEN, N) of a token in float32, each product rounded as it is stored."""
    def product(x, w, expert):
        one = [a[expert] for a in w]
        one = one[0] if layer.bits == 16 else mx.dequantize(*one, group_size=GROUP, bits=layer.bits)
        return (x.astype(mx.float32) @ one.astype(mx.float32).T).astype(mx.bfloat16).astype(mx.float32)

    def result(at):
        expert, x = layer.ids[token, at].item(), layer.between[token, at]
        if part != "out":
            x = nn.silu(product(layer.x[token], layer.gate, expert)) * product(layer.x[token], layer.up, expert)
        return x if part == "in" else product(x.astype(mx.bfloat16), layer.down, expert)
    return mx.stack([result(at) for at in range(CHOSEN)])


def difference(layer, part, call):
    """The largest of some tokens to float32, over the largest value; with codes W is rounded there once more."""
    rows = layer.ids.shape[0]
    tokens = [rows * i // CHECKED for i in range(CHECKED)]
    made = call().reshape(rows, CHOSEN, -1)
    wanted = mx.stack([exact(layer, part, token) for token in tokens])
    off = mx.abs(made[mx.array(tokens)].astype(mx.float32) - wanted)
    return (mx.max(off) / mx.max(mx.abs(wanted))).item()


def row_of(layer, part, args):
    calls, start = layer.calls(part), time.monotonic()
    row = {"tokens": args.tokens, "bits": layer.bits, "part": part, "weight_mb": layer.bytes_of(part) / 1e6}
    row.update(least_us(part, args.tokens * CHOSEN, layer.bytes_of(part)))
    row["difference"] = {side: difference(layer, part, calls[side]) for side in args.sides}
    if row["difference"].get("mlx_kd", 0) > MOST_OFF:
        sys.exit(f"{part} of {layer.bits} bits is off by {row['difference']['mlx_kd']:.3g} of the largest value")
    mlx_kd.reset_stats()
    times = times_of({side: calls[side] for side in args.sides}, args)
    if mlx_kd.stats()["calls"] > mlx_kd.stats()["defaults"]:
        sys.exit(f"{part} of {layer.bits} bits: no kernel of mlx_kd ran: {mlx_kd.stats()}")
    row["us"] = {side: spread(each) for side, each in times.items()}
    if "mlx_kd" in times:
        least = max(row["dense_us"], row["read_us"])
        row["of_goal"] = spread([one / least for one in times["mlx_kd"]])
    if len(times) == 2:
        row["mlx_over_kd"] = spread([theirs / ours for ours, theirs in zip(times["mlx_kd"], times["MLX"])])
    print(f"{time.monotonic() - start:.0f} s:", rounded(row), file=sys.stderr, flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--bits", default="16,4")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--us", type=float, default=20000)
    parser.add_argument("--sides", default="mlx_kd,MLX", type=lambda text: text.split(","))
    parser.add_argument("--out")
    args = parser.parse_args()
    if unknown := [side for side in args.sides if side not in ("mlx_kd", "MLX")]:
        parser.error(f"--sides has {', '.join(unknown)}: give mlx_kd, MLX or both")
    if unknown := [bits for bits in args.bits.split(",") if bits not in ("4", "16")]:
        parser.error(f"--bits has {', '.join(unknown)}: give 4, 16 or both")
    mx.set_default_device(mx.gpu)
    mlx_kd.configure(default_kernels=KERNELS, wait_for_compile=True)
    result = {"what": "Chosen experts of a prompt, as in a layer of qwen3-30b-a3b, in bfloat16",
              "date": datetime.date.today().isoformat(), "machine": gpu_machine(), "mlx": mx.__version__,
              "torch": torch.__version__, "rounds": args.rounds, "rows": []}
    for bits in args.bits.split(","):
        layer = Layer(args.tokens, int(bits))
        for part in PARTS:
            result["rows"].append(row_of(layer, part, args))
            write_result(rounded(result), args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
