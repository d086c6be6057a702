#!/usr/bin/env python3
"""How fast the operators are that proved the contract, at every size of their suites, next to MLX in a graph.

    bench/contract_operators.py [--kd build/release/kd] [--ops soft_cap,...] [--dtypes float32,bfloat16] [--budget 20]
                                [--preload LIBRARY --preload-name TEXT] [--runs DIR] [--out FILE]

One `kd run` per operator, suite and type; a figure is the median of paired ratios with its 95 % interval. With --preload
MLX's LAPACK is that of LIBRARY (libopenblas.so.0: it has spotrf_ by its plain name), which TEXT names in the result.
Writes bench/results/contract_operators.json: rows that are measured again are replaced, the others stay.
"""
import argparse
import datetime
import json
import os
import subprocess
from pathlib import Path

import suites
from common import machine

ROOT = Path(__file__).resolve().parent.parent
OPS = "soft_cap,soft_cap_vjp,greedy_token,kv_append,cholesky"
ONLY_FLOAT32 = ("cholesky",)  # MLX's has no other type


def suites_of(kd, names):
    listed = json.loads(subprocess.run([kd, "ops", "--json"], stdout=subprocess.PIPE, text=True, check=True).stdout)
    return {op["name"]: list(op["suites"]) for op in listed if op["name"] in names}


def row_of(made, lapack):
    metrics = made.get("metrics", {})
    row = {name: made[name] for name in ("op", "dtype", "suite", "shape")}
    for name in ("kernel_us", "latency_us", "baseline_us", "speedup_vs_ref", "speedup_lo", "speedup_hi"):
        row[name] = metrics.get(name)
    return {**row, "lapack": lapack if made["op"] == "cholesky" else ""}


def key_of(row):
    return row["op"], row["lapack"], row["dtype"], row["suite"], json.dumps(row["shape"], sort_keys=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kd", default=str(ROOT / "build" / "release" / "kd"))
    parser.add_argument("--ops", default=OPS)
    parser.add_argument("--suite", help="this one alone")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--budget", type=int, default=20)
    parser.add_argument("--preload")
    parser.add_argument("--preload-name", default="preloaded")
    parser.add_argument("--runs", default=str(ROOT / "runs" / "contract"))
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "contract_operators.json")
    args = parser.parse_args()
    lapack = args.preload_name if args.preload else "as installed"
    listed = suites_of(args.kd, args.ops.split(","))
    if args.preload:
        os.environ["LD_PRELOAD"] = str(Path(args.preload).resolve())
        args.runs += "-preloaded"
    rows = {}
    if args.out.exists():
        rows = {key_of(row): row for row in json.loads(args.out.read_text(encoding="utf-8"))["rows"]}
    for op, names in listed.items():
        for suite in [name for name in names if not args.suite or name == args.suite]:
            for dtype in args.dtypes.split(",")[:1 if op in ONLY_FLOAT32 else None]:
                for made, _ in suites.run_one(args, op, dtype, suite, [suite]):
                    row = row_of(made, lapack)
                    rows[key_of(row)] = row
                    print(op, dtype, suite, json.dumps(row["shape"]), row["speedup_vs_ref"], row["speedup_lo"], flush=True)
    meta = json.loads(next(Path(args.runs).glob("*/run_meta.json")).read_text(encoding="utf-8"))
    result = {"what": f"Every suite of the operators, a budget of {args.budget} each, in a graph",
              "date": datetime.date.today().isoformat(), "machine": machine(), "runtime": meta["runtime"],
              "protocol": meta["protocol"], "budget": args.budget, "rows": sorted(rows.values(), key=key_of)}
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
