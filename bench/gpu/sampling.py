#!/usr/bin/env python3
"""Drawing tokens on an NVIDIA GPU: mlx_kd, mlx-lm's chain on MLX, and PyTorch where it is installed, in one run.

    bench/gpu/sampling.py [--rounds 20] [--calls 50] [--compared 100000] [--minutes 3]
                          [--processes 8] [--out FILE]

A call takes logits of 16 bits from N(0, s^2) and gives tokens: logsumexp, filters and the draw. Sides take turns, in
random order; a sample is --calls calls in one evaluation (MLX) or between two events (PyTorch, which sorts). Rows with
settings of their own: top_p, min_p and top_k in turn. Reported: medians in us per call. Then --compared random calls of
one row, with vocabularies of 64 to 4,096 or, one in a hundred, of 151,936, are drawn by mlx_kd and by MLX's chain on this
GPU, which must agree in each; --processes do so at once, each with calls of its own.
"""
import argparse
import datetime
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import mlx.core as mx

import mlx_kd
from mlx_kd.sampling import chain
from mlx_kd.sampling.settings import Settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import gpu_machine, torch_us, write_result  # noqa: E402

try:
    import torch
except ImportError:
    torch = None

FILTERS = {"greedy": Settings(0, 0, 0, 1, 0, 0, 0.1), "top-p 0.9": Settings(1, 0.9, 0, 1, 0, 0, 0.1),
           "top-k 50": Settings(1, 0, 0, 1, 50, 0, 0.1), "min-p 0.05": Settings(1, 0, 0.05, 1, 0, 0, 0.1)}
MIXED = [Settings(0.7, 0.9, 0, 1, 0, 0, 0.1), Settings(1, 0.95, 0.05, 1, 0, 0, 0.1), Settings(1, 0, 0, 1, 50, 0, 0.1),
         Settings(1.5, 0.8, 0, 1, 40, 0, 0.1)]


def numbers(one):
    return (one.temperature, one.top_p, one.min_p, one.min_tokens_to_keep, one.top_k, one.xtc_probability,
            one.xtc_threshold)


def by_torch(logits, one):
    """As transformers' warpers do it, each row with the same settings."""
    p = torch.softmax(logits.float() / (one.temperature or 1), dim=-1)
    if one.temperature == 0:
        return torch.argmax(p, dim=-1)
    if one.top_k:
        values, ids = torch.topk(p, one.top_k, dim=-1)
    elif one.has_top_p():
        values, ids = torch.sort(p, dim=-1, descending=True)
        values = values.masked_fill(torch.cumsum(values, dim=-1) - values >= one.top_p, 0)
    else:
        return torch.multinomial(p.masked_fill(p < one.min_p * p.amax(-1, keepdim=True), 0), 1)
    return ids.gather(-1, torch.multinomial(values, 1))


class Case:
    def __init__(self, rows, width, spread, name, given, calls):
        self.what, self.calls = {"rows": rows, "V": width, "type": "bfloat16", "s": spread, "filter": name}, calls
        self.logits = (mx.random.normal((rows, width), key=mx.random.key(int(spread))) * spread).astype(mx.bfloat16)
        self.key, self.given = mx.random.key(1), given
        self.arguments = list(zip(*map(numbers, given))) if isinstance(given, list) else numbers(given)
        mx.eval(self.logits, self.key)
        if torch is not None:
            self.for_torch = torch.randn(rows, width, device="cuda").mul(spread).bfloat16()
        self.times = {}

    def ours(self):
        return mlx_kd.sample(self.logits, *self.arguments, key=self.key)[0]

    def mlx(self):
        return chain.sample(self.logits, self.given, [], self.key, 0, False)[0]

    def sample(self, side):
        if side == "torch":
            one = self.given[0] if isinstance(self.given, list) else self.given
            return torch_us(lambda: by_torch(self.for_torch, one), self.calls)
        make = self.ours if side == "ours" else self.mlx
        calls = self.calls if side == "ours" or not isinstance(self.given, list) else 2
        start = time.perf_counter()
        mx.eval([make() for _ in range(calls)])
        return (time.perf_counter() - start) * 1e6 / calls

    def row(self):
        return {**self.what, **{f"{side}_us": round(statistics.median(times), 1) for side, times in self.times.items()}}


def timed(args, dice):
    cases = [Case(1, 151936, s, name, one, args.calls) for s in (1, 4) for name, one in FILTERS.items()]
    cases.append(Case(64, 128256, 2, "settings for each row", [MIXED[i % 4] for i in range(64)], args.calls))
    sides = ["ours", "mlx"] + ["torch"] * (torch is not None)
    for case in cases:
        for side in sides:
            case.sample(side)  # compiles
        for _ in range(args.rounds):
            for side in dice.sample(sides, len(sides)):
                case.times.setdefault(side, []).append(case.sample(side))
        print(case.row(), file=sys.stderr, flush=True)
    return [case.row() for case in cases]


def random_settings(dice, width):
    return Settings(dice.choice([0, 0.3, 0.7, 1, 1.5]), dice.choice([0, 0.1, 0.5, 0.9, 0.99]),
                    dice.choice([0, 0, 0.05, 0.3]), dice.choice([1, 1, 2, 5]), dice.choice([0, 0, 1, 5, 50]) % width, 0, 0.1)


def compared(count, minutes, seed):
    """Of random calls, as many as there is time for: how many gave other tokens, log probabilities or largest."""
    dice, start = random.Random(seed), time.monotonic()
    widths = [dice.choice([64, 500, 1000, 3000, 4096]) for _ in range(50)]
    calls, differ, blocks = 0, [], 0
    while calls < count and time.monotonic() - start < 60 * minutes:
        blocks += 1
        width, dtype = dice.choice(widths) if blocks % 10 else 151936, dice.choice([mx.float16, mx.bfloat16])
        each = min(500 if width <= 4096 else 50, count - calls)
        seeds = [dice.getrandbits(32) for _ in range(2)]
        logits = mx.random.normal((each, width), key=mx.array(seeds, mx.uint32)) * dice.choice([0.1, 1, 2, 4, 8])
        logits = (mx.round(logits) if dice.random() < 0.2 else logits).astype(dtype)
        equal, given = [], []
        for i in range(each):
            one, key = random_settings(dice, width), mx.array([seeds[0], i], dtype=mx.uint32)
            ours = mlx_kd.sample(logits[i:i + 1], *numbers(one), key=key, logprobs=5)
            theirs = chain.sample(logits[i:i + 1], one, [], key, 5, False)
            equal.append(mx.all(mx.stack([mx.array_equal(a, b) for a, b in zip(ours, theirs)])))
            given.append((width, str(dtype), seeds, i, numbers(one)))
        calls += each
        differ += [what for what, same in zip(given, mx.stack(equal).tolist()) if not same]
    return {"calls": calls, "differ": differ}


def compared_at_once(args):
    """The same by several processes."""
    start = time.monotonic()
    command = [sys.executable, __file__, "--compared", str(args.compared // args.processes), "--minutes", str(args.minutes)]
    running = [subprocess.Popen([*command, "--share", str(share)], stdout=subprocess.PIPE, text=True)
               for share in range(1, args.processes + 1)]
    found = [json.loads(one.communicate()[0].splitlines()[-1]) for one in running]
    differ = [what for one in found for what in one["differ"]]
    return {"calls": sum(one["calls"] for one in found), "differ": len(differ), "which": differ[:20],
            "seconds": round(time.monotonic() - start, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--compared", type=int, default=100000)
    parser.add_argument("--minutes", type=float, default=3, help="for the comparison at most")
    parser.add_argument("--processes", type=int, default=8, help="that compare at once")
    parser.add_argument("--share", type=int, default=0, help="only compares, with this seed, and prints what it found")
    parser.add_argument("--out", default="-", help="a file, or - for stdout")
    args = parser.parse_args()
    if args.share:
        print(json.dumps(compared(args.compared, args.minutes, args.share)))
        return 0
    dice = random.Random(0)
    before = mlx_kd.sampling_counts()["kernel"]
    rows = timed(args, dice)
    if mlx_kd.sampling_counts()["kernel"] == before:
        sys.exit("mlx_kd ran MLX's chain: the native module is missing (kd doctor)")
    result = {"what": "drawing tokens from logits of N(0, s^2) in bfloat16, us per call",
              "machine": {**gpu_machine(), "mlx": mx.__version__, "torch": getattr(torch, "__version__", None)},
              "date": datetime.datetime.now().isoformat(timespec="seconds"), "rounds": args.rounds, "calls": args.calls,
              "rows": rows, "compared": compared_at_once(args)}
    write_result(result, args.out)
    return 1 if result["compared"]["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
