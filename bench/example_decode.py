#!/usr/bin/env python3
"""What pins give the example decoder: time of its norms and gates, and its peak memory, with and without.

    PYTHONPATH=SITE bench/example_decode.py [--budget 40] [--rounds 5] [--out FILE]

(with a Python that has mlx_kd, or SITE as the tests install it). Finds kernels for the decoder's sizes, then runs
examples/decode.py in fresh processes in turns, with the pack and with an empty one, so that both do the same work. Writes bench/results/example_decode.json:
medians over the processes. Goals: less time; peak memory within 1 %.
"""
import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import mlx.core as mx

import mlx_kd
from common import machine

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "decode.py"
OPS = ("rmsnorm", "rmsnorm_residual", "swiglu")


def make_pack(folder, budget):
    subprocess.run([sys.executable, EXAMPLE, "--config", folder], check=True)
    for op in OPS:
        mlx_kd.run(op, folder / op, shapes="auto", model_id=folder, decode_rows=1, dtype="float32", budget=budget)
        mlx_kd.install(folder / op, folder / "pins.json")
    return folder / "pins.json"


def run_example(**variables):
    """(what it printed, its peak memory in MiB)."""
    process = subprocess.Popen([sys.executable, EXAMPLE, "--json"], stdout=subprocess.PIPE, text=True,
                               env={**os.environ, **variables})
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"the example ended with {status}")
    return json.loads(printed), usage.ru_maxrss / 1024


def measure(pack, rounds):
    pinned, plain, empty = [], [], pack.with_name("empty.json")
    empty.write_text(json.dumps({**json.loads(pack.read_text()), "entries": []}))
    for _ in range(rounds):
        for runs, path in ((plain, empty), (pinned, pack)):
            runs.append(run_example(MLX_KD_USE_DISCOVERED_KERNELS="1", MLX_KD_DISCOVERED_KERNELS_PATH=str(path)))
    ratios = [result["ops_us_mlx"] / result["ops_us_pinned"] for result, _ in pinned]
    last = pinned[-1][0]
    return {"ops_us_mlx": round(statistics.median(result["ops_us_mlx"] for result, _ in pinned), 1),
            "ops_us_pinned": round(statistics.median(result["ops_us_pinned"] for result, _ in pinned), 1),
            "speedup": round(statistics.median(ratios), 2), "speedups": [round(ratio, 2) for ratio in ratios],
            "largest_difference": last["difference"], "bound": last["bound"], "same_tokens": last["same_tokens"],
            "hits": last["stats"]["hits"], "misses": last["stats"]["misses"],
            "peak_mib_plain": round(statistics.median(peak for _, peak in plain), 1),
            "peak_mib_pinned": round(statistics.median(peak for _, peak in pinned), 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--budget", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", default=str(ROOT / "bench" / "results" / "example_decode.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(make_pack(Path(folder), args.budget), args.rounds)
    result = {"what": "examples/decode.py with pins and without: us of one layer's norms and gate in a graph, peak MiB",
              "budget": args.budget, "rounds": args.rounds, **result, "machine": machine(), "mlx": mx.__version__,
              "mlx_kd": mlx_kd.__version__, "date": datetime.date.today().isoformat()}
    Path(args.out).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
