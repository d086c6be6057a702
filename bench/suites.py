#!/usr/bin/env python3
"""What a discovery run gains over MLX, for every op, suite and type: one `kd run` each, collected as data.

    bench/suites.py [--kd ./kd] [--budget 100] [--dtypes float32 bfloat16] [--only OP[:SUITE]] [--runs DIR] [--out FILE]

Writes bench/results/suites.json (machine, versions, date, one row per size) and prints the geometric means. Each figure
is the median of paired ratios in `graph` mode with its 95 % bootstrap interval, from the run's own fresh final
measurement (docs/measuring.md).
"""
import argparse
import datetime
import json
import math
import subprocess
import sys
from pathlib import Path

from common import machine

ROOT = Path(__file__).resolve().parent.parent
SUITES = {
    "rmsnorm": ["glm_flash_decode", "glm_flash_small"],
    "rmsnorm_residual": ["glm_flash_decode", "glm_flash_small", "qwen30b_decode", "lfm2_decode"],
    "swiglu": ["glm_flash_decode", "glm_flash_small", "qwen30b_decode", "lfm2_decode"],
    "rope": ["glm_flash_decode", "glm_flash_small", "glm_mla_decode"],
}
# Sizes that are quoted by themselves.
EXTRA = [
    ("rmsnorm_residual", ["rows=1,D=4096"]),
    ("rmsnorm_residual", ["rows=1024,D=4096"]),
    ("swiglu", ["rows=1,D=14336"]),
    ("swiglu", ["rows=128,D=14336"]),
    ("rope", ["B=1,H_Q=20,D_NOPE=512,D_ROPE=64"]),
]


def jobs(dtypes, only):
    for dtype in dtypes:
        for op, suites in SUITES.items():
            for suite in suites:
                if not only or only in (op, f"{op}:{suite}"):
                    yield op, dtype, suite, [suite]
        for op, shapes in EXTRA:
            if not only or only in (op, f"{op}:extra"):
                yield op, dtype, "extra", shapes


def run_one(args, op, dtype, name, shapes):
    folder = Path(args.runs) / f"{op}-{dtype}-{name}-{'_'.join(s.replace('=', '').replace(',', '-') for s in shapes)}"
    command = [args.kd, "run", "--op", op, "--dtype", dtype, "--budget", str(args.budget), "--seed", "0", "--resume",
               "--out", str(folder), "--json", "--quiet"]
    for shape in shapes:
        command += ["--shapes", shape]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    outcome = json.loads(result.stdout)
    for size in outcome["sizes"]:
        yield {"op": op, "dtype": dtype, "suite": name, **size}, outcome["seconds"]


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kd", default=str(ROOT / "kd"))
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--only", help="OP or OP:SUITE")
    parser.add_argument("--runs", default=str(ROOT / "runs" / "bench"))
    parser.add_argument("--out", default=str(ROOT / "bench" / "results" / "suites.json"))
    args = parser.parse_args()
    rows = []
    for op, dtype, name, shapes in jobs(args.dtypes, args.only):
        for row, seconds in run_one(args, op, dtype, name, shapes):
            rows.append(row)
            metrics = row.get("metrics", {})
            print(f"{op:17} {dtype:9} {name:17} {json.dumps(row['shape']):70} "
                  f"{metrics.get('speedup_vs_ref', float('nan')):7.2f}x  {metrics.get('latency_us', float('nan')):9.2f} us"
                  f"  ({seconds:.0f} s)", flush=True)
    meta = json.loads((next(Path(args.runs).glob("*/run_meta.json"))).read_text())
    summary = {}
    for dtype in args.dtypes:
        ratios = [r["metrics"]["speedup_vs_ref"] for r in rows
                  if r["dtype"] == dtype and "metrics" in r and r["suite"] != "extra"]
        summary[dtype] = {"geometric_mean": geometric_mean(ratios), "least": min(ratios, default=float("nan")), "sizes": len(ratios)}
        print(f"{dtype}: geometric mean {summary[dtype]['geometric_mean']:.2f}x over {len(ratios)} sizes, least {summary[dtype]['least']:.2f}x")
    Path(args.out).write_text(json.dumps({
        "date": datetime.date.today().isoformat(), "machine": machine(), "runtime": meta["runtime"],
        "protocol": meta["protocol"], "budget": args.budget, "summary": summary, "rows": rows}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main())
