#!/usr/bin/env python3
"""Families of models, patched: never slower than MLX? For prompts of several lengths and a token after a context.

    PYTHONPATH=SITE bench/families/run.py [FAMILY...] [--bits 4 16 32] [--pairs 7] [--seconds 3] [--out FILE]

SITE has the package mlx_kd (pip install --target SITE . in the clone); the Python that runs this needs mlx-lm. Models
have two layers of published widths and random weights (families.py), and are timed with and without the patch in one
process, pair by pair, in turn which is first: the median of the ratios and its 95 % bootstrap interval, or least and
greatest of fewer than 6 pairs. A cell takes --seconds at least for 2 pairs, at most --pairs.

Where MLX takes longer than a second for the whole prompt, its time is that of its first tokens, as many as fit, times
as often as the prompt has as many (one token where that takes a quarter of a second: its quantised products take as
long for each row): less than its real time, since attention grows faster than that. The file says how many. Results of
families that are not named are kept. 16 bits are bfloat16, 32 are float32, both sides in the same: MLX's product of
experts takes nothing else on a CPU.
"""
import argparse
import contextlib
import datetime
import io
import json
import statistics
import sys
import time
from pathlib import Path

import families

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import machine, spread  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
PROMPTS, CONTEXT = (1, 37, 512, 2048), 512
LONGEST_S = 1.0
SLOW_S = 0.25  # a token: products of quantised weights, whose time grows with the rows
FEW = 16       # tokens of MLX's side at least where it is faster: products of few rows take longer per row


class Sides:
    """The model, and a twin of it that is patched: they share their weights."""

    def __init__(self, family, bits):
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache

        import mlx_kd
        from mlx_kd.patching.samples import clone
        self.mx, self.make_cache = mx, make_prompt_cache
        self.mlx = families.model_of(family, bits)
        self.ours = clone(self.mlx)
        with contextlib.redirect_stderr(io.StringIO()):
            self.report = mlx_kd.patch(self.ours)

    def prompt(self, model, count, cache=None):
        tokens = self.mx.array([[300 + i % 1000 for i in range(count)]])
        cache = cache or self.make_cache(model)
        start = time.perf_counter()
        self.mx.eval(model(tokens, cache=cache)[:, -1])
        return time.perf_counter() - start

    def filled(self, count):
        """A cache after so many tokens, by the side that is fast."""
        cache = self.make_cache(self.ours)
        self.prompt(self.ours, count, cache)
        return cache

    def step(self, model, cache):
        """A token after what the cache holds; the cache is used by both sides in turn."""
        start = time.perf_counter()
        self.mx.eval(model(self.mx.array([[300]]), cache=cache))
        return time.perf_counter() - start


def fitting(sides, count):
    """Tokens of MLX's side of a prompt of `count`."""
    taken = min(sides.prompt(sides.mlx, 1) for _ in range(2))
    if taken > SLOW_S:
        return 1
    few = min(count, FEW)
    taken = sides.prompt(sides.mlx, few)
    return count if taken * count / few <= LONGEST_S else max(few, min(count, int(few * LONGEST_S / taken)))


def pairs(args, mlx, ours, share):
    """Ratios and seconds of both sides; `share` of MLX's work is one sample of it."""
    times, start = {"mlx": [], "ours": []}, time.perf_counter()
    ours()  # the first compiles
    while len(times["mlx"]) < args.pairs and (len(times["mlx"]) < 2 or time.perf_counter() - start < args.seconds):
        for name in ("mlx", "ours") if len(times["mlx"]) % 2 else ("ours", "mlx"):
            times[name].append(mlx() / share if name == "mlx" else ours())
    return {"ratio": spread([a / b for a, b in zip(times["mlx"], times["ours"])]),
            "mlx_ms": 1e3 * statistics.median(times["mlx"]), "ours_ms": 1e3 * statistics.median(times["ours"])}


def measured(args, family, bits):
    sides = Sides(family, bits)
    found = {"family": family, "bits": bits, "cells": [], "patch": str(sides.report).splitlines()}
    try:
        sides.prompt(sides.mlx, 1)
    except RuntimeError as error:
        return {**found, "mlx_cannot": str(error).splitlines()[0]}
    for count in PROMPTS:
        few = fitting(sides, count)
        cell = pairs(args, lambda: sides.prompt(sides.mlx, few), lambda: sides.prompt(sides.ours, count), few / count)
        found["cells"].append({"what": "prompt", "tokens": count, "mlx_tokens": few, **cell})
        print(family, bits, json.dumps(found["cells"][-1]), flush=True)
    cache = sides.filled(CONTEXT)
    cell = pairs(args, lambda: sides.step(sides.mlx, cache), lambda: sides.step(sides.ours, cache), 1)
    found["cells"].append({"what": "step", "tokens": CONTEXT, "mlx_tokens": 1, **cell})
    print(family, bits, json.dumps(found["cells"][-1]), flush=True)
    return found


def write(args, made):
    import mlx.core as mx
    import mlx_lm
    before = json.loads(args.out.read_text())["families"] if args.out.exists() else []
    keys = {(one["family"], one["bits"]) for one in made}
    kept = [one for one in before if (one["family"], one["bits"]) not in keys] + made
    kept.sort(key=lambda one: (list(families.CONFIGS).index(one["family"]), one["bits"]))
    configs = {family: {**families.COMMON, **config} for family, config in families.CONFIGS.items()}
    result = {"what": "families of models with random weights: MLX's time over that of the patched model",
              "date": datetime.date.today().isoformat(), "machine": machine(),
              "versions": {"MLX": mx.__version__, "mlx-lm": mlx_lm.__version__}, "group": families.GROUP,
              "configs": configs, "families": kept}
    args.out.write_text(json.dumps(result, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("family", nargs="*", choices=[[], *families.CONFIGS], default=[])
    parser.add_argument("--bits", nargs="+", type=int, default=[4, 16])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "families_cpu.json")
    args = parser.parse_args()
    for family in args.family or families.CONFIGS:
        for bits in args.bits:
            write(args, [measured(args, family, bits)])


if __name__ == "__main__":
    main()
