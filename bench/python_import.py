#!/usr/bin/env python3
"""What `import mlx_kd` costs over `import mlx.core`: the two in one fresh process, one after the other.

    PYTHONPATH=SITE bench/python_import.py [--rounds 60] [--out FILE]

(with a Python that has mlx_kd, or SITE as the tests install it). Each process times the second import alone, with
everything of the first there, its files in the page cache. Writes bench/results/python_import.json: median, 95th
percentile and maximum in ms. Goal: at most 30 ms.
"""
import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMED = """
import time, mlx.core
start = time.perf_counter()
import mlx_kd
print(time.perf_counter() - start, mlx_kd.__version__, mlx.core.__version__)
"""


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.processor())
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "system": f"{platform.system()} {platform.machine()}",
            "load": round(os.getloadavg()[0], 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", default=str(ROOT / "bench" / "results" / "python_import.json"))
    args = parser.parse_args()
    times = []
    for number in range(args.rounds + 1):
        printed = subprocess.run([sys.executable, "-c", TIMED], stdout=subprocess.PIPE, text=True, check=True).stdout
        seconds, version, mlx = printed.split()
        if number:  # the first writes the bytecode
            times.append(1e3 * float(seconds))
    times.sort()
    result = {"what": "import mlx_kd after import mlx.core in a fresh process, ms", "rounds": args.rounds,
              "median_ms": round(statistics.median(times), 2), "p95_ms": round(times[int(0.95 * len(times))], 2),
              "max_ms": round(times[-1], 2), "machine": machine(), "python": platform.python_version(),
              "mlx": mlx, "mlx_kd": version, "date": datetime.date.today().isoformat()}
    Path(args.out).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
