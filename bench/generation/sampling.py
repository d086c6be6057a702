#!/usr/bin/env python3
"""Drawing a token on this CPU: mlx_kd, mlx-lm's sampler on MLX, and PyTorch where it is installed, in one run.

    bench/generation/sampling.py [--rounds 30] [--out bench/results/sampling_cpu.json]

Needs mlx_kd (on PYTHONPATH, or installed) and mlx-lm of requirements.txt in this Python. A call takes logits [1, V]
from N(0, s^2) and gives a token: logsumexp, filters and the draw. Per round each side gives one sample of each row of
the table, in random order; mlx_kd's samples are `--calls` calls in one evaluation ("in a graph") and one call by itself
("single"). Reported: medians in us, and the median of the paired ratios of the others to mlx_kd in a graph, with its
95 % bootstrap interval. The tokens of mlx_kd and mlx-lm are compared at each sample.
"""
import argparse
import datetime
import random
import statistics
import sys
import time
from pathlib import Path

import mlx.core as mx
from mlx_lm.sample_utils import make_sampler

import mlx_kd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import machine, write_result  # noqa: E402

try:
    import torch
except ImportError:
    torch = None

ROOT = Path(__file__).resolve().parent.parent.parent
TYPES = {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32}
FILTERS = {"greedy": {"temp": 0.0}, "top-k 50": {"temp": 1.0, "top_k": 50}, "top-p 0.9": {"temp": 1.0, "top_p": 0.9},
           "min-p 0.05": {"temp": 1.0, "min_p": 0.05}}


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def by_torch(logits, settings):
    """As transformers' warpers do it."""
    p = torch.softmax(logits.float(), dim=-1)
    if settings["temp"] == 0:
        return torch.argmax(p, dim=-1)
    if "top_k" in settings:
        values, ids = torch.topk(p, settings["top_k"], dim=-1)
        return ids.gather(-1, torch.multinomial(values, 1))
    if "top_p" in settings:
        values, ids = torch.sort(p, dim=-1, descending=True)
        above = torch.cumsum(values, dim=-1) - values
        values[above >= settings["top_p"]] = 0
        return ids.gather(-1, torch.multinomial(values, 1))
    return torch.multinomial(p.masked_fill(p < settings["min_p"] * p.max(), 0), 1)


class Case:
    def __init__(self, width, dtype, spread, name, calls):
        self.what = {"V": width, "type": dtype, "s": spread, "filter": name}
        self.settings, self.calls = FILTERS[name], calls
        self.logits = (mx.random.normal((1, width), key=mx.random.key(int(spread))) * spread).astype(TYPES[dtype])
        mx.eval(self.logits)
        self.sampler = make_sampler(**self.settings)
        arguments = {"temperature" if key == "temp" else key: value for key, value in self.settings.items()}
        self.ours = lambda: mlx_kd.sample(self.logits, **arguments)[0]
        if torch is not None:
            self.for_torch = torch.tensor(self.logits.astype(mx.float32).tolist()).to(getattr(torch, dtype))
        self.times = {}

    def theirs(self):
        return self.sampler(self.logits - mx.logsumexp(self.logits, axis=-1, keepdims=True))

    def sample(self, side, seed):
        """Seconds of a call, and the token of the first."""
        mx.random.seed(seed)
        tokens = []
        if side == "graph":
            took = seconds(lambda: mx.eval(tokens.extend(self.ours() for _ in range(self.calls)) or tokens)) / self.calls
        elif side == "single":
            took = seconds(lambda: mx.eval(tokens.append(self.ours()) or tokens))
        elif side == "mlx":
            took = seconds(lambda: mx.eval(tokens.append(self.theirs()) or tokens))
        else:
            return seconds(lambda: by_torch(self.for_torch, self.settings)), None
        return took, tokens[0].item()

    def round(self, sides, seed, dice):
        tokens = {}
        for side in dice.sample(sides, len(sides)):
            took, tokens[side] = self.sample(side, seed)
            self.times.setdefault(side, []).append(1e6 * took)
        if not tokens["graph"] == tokens["single"] == tokens["mlx"]:
            sys.exit(f"{self.what}: the tokens differ: {tokens}")

    def row(self, dice):
        row = dict(self.what)
        for side, times in self.times.items():
            row[f"{side}_us"] = round(statistics.median(times), 1)
            if side in ("mlx", "torch"):
                ratios = [other / own for other, own in zip(times, self.times["graph"])]
                medians = sorted(statistics.median(dice.choices(ratios, k=len(ratios))) for _ in range(2000))
                row[f"{side}_ratio"] = [round(x, 2) for x in (statistics.median(ratios), medians[50], medians[1949])]
        return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--width", type=int, default=152064)
    parser.add_argument("--filters", nargs="+", default=list(FILTERS), choices=FILTERS)
    parser.add_argument("--types", nargs="+", default=["bfloat16", "float32"], choices=TYPES)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "sampling_cpu.json")
    options = parser.parse_args()
    mx.set_default_device(mx.cpu)
    dice, sides = random.Random(0), ["graph", "single", "mlx"] + ["torch"] * (torch is not None)
    cases = [Case(options.width, dtype, spread, name, options.calls)
             for name in options.filters for dtype in options.types for spread in (1.0, 2.0, 4.0, 8.0)]
    for case in cases:
        for side in sides:
            case.sample(side, 0)  # compiles
    before = mlx_kd.sampling_counts()
    for turn in range(options.rounds):
        for case in dice.sample(cases, len(cases)):
            case.round(sides, turn, dice)
    counts = {name: count - before[name] for name, count in mlx_kd.sampling_counts().items()}
    import mlx_lm
    result = {"what": "us to draw one token from logits [1, V]", "date": str(datetime.date.today()),
              "machine": machine(),
              "versions": {"MLX": mx.__version__, "mlx-lm": getattr(mlx_lm, "__version__", "unknown"),
                           **({"PyTorch": torch.__version__} if torch is not None else {})},
              "rounds": options.rounds, "calls_in_a_graph": options.calls, "served": counts,
              "rows": [case.row(dice) for case in cases]}
    write_result(result, options.out)


if __name__ == "__main__":
    main()
