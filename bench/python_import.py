#!/usr/bin/env python3
"""What `import mlx_kd` costs over `import mlx.core`: the two in one fresh process, one after the other.

    PYTHONPATH=SITE bench/python_import.py [--rounds 60] [--out FILE]

(with a Python that has mlx_kd, or SITE as the tests install it). Each process times the second import alone, with
everything of the first there, its files in the page cache. Writes bench/results/python_import.json: median, 95th
percentile, extremes in ms, and the median of the processor's time, which a busy machine does not stretch. Goal: at
most 30 ms.
"""
import argparse
import datetime
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from common import machine

ROOT = Path(__file__).resolve().parent.parent
TIMED = """
import time, mlx.core
start, cpu_start = time.perf_counter(), time.process_time()
import mlx_kd
cpu, wall = time.process_time() - cpu_start, time.perf_counter() - start
print(wall, cpu, mlx_kd.__version__, mlx.core.__version__)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", default=str(ROOT / "bench" / "results" / "python_import.json"))
    args = parser.parse_args()
    times, cpu_times = [], []
    for number in range(args.rounds + 1):
        printed = subprocess.run([sys.executable, "-c", TIMED], stdout=subprocess.PIPE, text=True, check=True).stdout
        wall, cpu, version, mlx = printed.split()
        if number:  # the first writes the bytecode
            times.append(1e3 * float(wall))
            cpu_times.append(1e3 * float(cpu))
    times.sort()
    result = {"what": "import mlx_kd after import mlx.core in a fresh process, ms", "rounds": args.rounds,
              "median_ms": round(statistics.median(times), 2), "p95_ms": round(times[int(0.95 * len(times))], 2),
              "max_ms": round(times[-1], 2), "min_ms": round(times[0], 2),
              "median_cpu_ms": round(statistics.median(cpu_times), 2), "machine": machine(),
              "python": platform.python_version(), "mlx": mlx, "mlx_kd": version, "date": datetime.date.today().isoformat()}
    Path(args.out).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
