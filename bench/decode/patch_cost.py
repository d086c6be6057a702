#!/usr/bin/env python3
"""What mlx_kd.patch costs: seconds with its proofs, and the peak memory of a process that patches its model.

    PYTHONPATH=SITE bench/decode/patch_cost.py [--layers 32] [--rounds 3] [--out FILE]

SITE has the package mlx_kd; the Python that runs this needs mlx-lm. The model is that of run.py in 4 bits with more
layers. Each process makes it, forgets its peak, and then reads a prompt of 4 tokens and decodes 2: one as mlx-lm has it,
one after mlx_kd.patch, in turn. Both peaks are over the resident memory of the whole process, the compiled kernels, the
judge's float32 copies and Python included. The first round compiles kernels into an empty cache, the others find them.
Processor seconds are those of the process and of the compilers that it started: on a busy machine they say more.
"""
import argparse
import contextlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import model as models

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import machine, memory_kb, reset_peak, rounded, write_result  # noqa: E402

PROMPT, STEPS = 4, 2


def processor_s():
    mine, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime + others.ru_utime + others.ru_stime


def side(name, layers):
    """In a process of its own: what it took, as JSON."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache
    model = models.mlx_model(4, {**models.SHAPE, "layers": layers})
    found = {"mlx": mx.__version__}
    reset_peak()
    found["before_mib"] = memory_kb("VmRSS") / 1024
    if name == "ours":
        import mlx_kd
        wall, processor = time.perf_counter(), processor_s()
        with contextlib.redirect_stderr(io.StringIO()):
            report = mlx_kd.patch(model)
        found |= {"patch_s": time.perf_counter() - wall, "patch_processor_s": processor_s() - processor,
                  "patch_peak_mib": memory_kb("VmHWM") / 1024, "patch": str(report).splitlines()[0]}
    cache = make_prompt_cache(model)
    mx.eval(model(mx.array([[300 + i for i in range(PROMPT)]]), cache=cache))
    for _ in range(STEPS):
        mx.eval(model(mx.array([[300]]), cache=cache))
    found["peak_mib"] = memory_kb("VmHWM") / 1024
    print(json.dumps(found))


def run(name, layers, kernels):
    done = subprocess.run([sys.executable, __file__, "--side", name, "--layers", str(layers)], check=True, text=True,
                          stdout=subprocess.PIPE, env={**os.environ, "MLX_KD_CACHE_DIR": kernels})
    print(name, done.stdout.strip(), file=sys.stderr, flush=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out")
    parser.add_argument("--side", choices=["mlx", "ours"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        return side(args.side, args.layers)
    with tempfile.TemporaryDirectory() as kernels:
        rounds = [{name: run(name, args.layers, kernels) for name in ("mlx", "ours")} for _ in range(args.rounds)]
    ours, first = [one["ours"] for one in rounds[1:]], rounds[0]["ours"]

    def middle(values):
        return statistics.median(list(values))
    peaks = {name: middle(one[name]["peak_mib"] for one in rounds) for name in ("mlx", "ours")}
    result = {"what": f"mlx_kd.patch of a model of {args.layers} layers of 2,048 in 4 bits, with all proofs",
              "patch_s": middle(one["patch_s"] for one in ours),
              "patch_processor_s": middle(one["patch_processor_s"] for one in ours),
              "first_patch_s": first["patch_s"], "first_patch_processor_s": first["patch_processor_s"],
              "peak_mib_mlx": peaks["mlx"], "peak_mib_patched": peaks["ours"],
              "peak_ratio": middle(one["ours"]["peak_mib"] / one["mlx"]["peak_mib"] for one in rounds),
              "rounds": args.rounds, "patch": first["patch"], "machine": machine(),
              "date": time.strftime("%Y-%m-%d", time.gmtime()), "mlx": first["mlx"]}
    write_result(rounded(result), args.out)


if __name__ == "__main__":
    main()
