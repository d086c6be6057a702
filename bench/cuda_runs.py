#!/usr/bin/env python3
"""What discovery runs on an NVIDIA GPU gain over MLX: one `kd run --device cuda` for each operator, collected as data.

    bench/cuda_runs.py [--kd ./kd] [--budget 32] [--only OP] [--runs DIR] [--out FILE]

Writes machine, versions, date and a row per size: the winner, or, if none is faster than MLX, the finalist with the
lowest time in a graph. kd must run on an MLX with CUDA (docs/cuda.md).
"""
import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

from common import gpu_machine, rounded

ROOT = Path(__file__).resolve().parent.parent
RUNS = [
    ("rmsnorm_residual", "bfloat16", ["rows=1,D=4096", "rows=1024,D=4096"]),
    ("soft_cap", "bfloat16", ["rows=1,D=256000", "rows=8,D=4096"]),
    ("greedy_token", "bfloat16", ["llama3_decode"]),
    ("kv_append", "bfloat16", ["decode"]),
    ("kv_append", "bfloat16", ["latent_decode"]),
    ("cholesky", "float32", ["batches"]),
    ("cholesky", "float32", ["single"]),
]


def run_one(args, op, dtype, shapes):
    folder = Path(args.runs) / "-".join([op, dtype, *shapes]).replace("=", "").replace(",", "-")
    command = [args.kd, "run", "--op", op, "--device", "cuda", "--dtype", dtype, "--budget", str(args.budget), "--seed",
               "0", "--out", str(folder), "--json", "--quiet"]
    for shape in shapes:
        command += ["--shapes", shape]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return folder, json.loads(result.stdout)


def records_of(folder):
    """{candidate_id: record} of a run."""
    lines = (json.loads(line) for line in (folder / "run.ndjson").read_text().splitlines())
    return {line["candidate_id"]: line for line in lines if "candidate_id" in line and "status" in line}


def rows_of(op, dtype, outcome, records):
    for size in outcome["sizes"]:
        metrics = size.get("metrics")
        if not metrics or metrics.get("baseline_us") is None:
            yield {"op": op, "dtype": dtype, "shape": size["shape"], "reason": size.get("reason", "nothing was timed")}
            continue
        record = records.get(size["candidate_id"], {})
        yield {"op": op, "dtype": dtype, "shape": size["shape"], "language": record.get("language", "metal"),
               "knobs": record.get("template_params", {}), "kernel_us": metrics["kernel_us"],
               "graph_us": metrics["latency_us"], "single_us": metrics["single_us"], "mlx_us": metrics["baseline_us"],
               "mlx_form": size["baseline"], "speedup": metrics["speedup_vs_ref"],
               "interval": [metrics["speedup_lo"], metrics["speedup_hi"]], "claimed": size["won"],
               "bit_exact": metrics["bit_exact"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kd", default=str(ROOT / "kd"))
    parser.add_argument("--budget", type=int, default=32)
    parser.add_argument("--only", help="OP")
    parser.add_argument("--runs", default=str(ROOT / "runs" / "cuda"))
    parser.add_argument("--out", default="-", help="a file, or - for stdout")
    args = parser.parse_args()
    rows, proved, tried, runtime = [], 0, 0, {}
    for op, dtype, shapes in RUNS:
        if args.only and args.only != op:
            continue
        folder, outcome = run_one(args, op, dtype, shapes)
        runtime = json.loads((folder / "run_meta.json").read_text())["runtime"]
        tried += outcome["evaluated"]
        proved += outcome["benchmarked"]
        for row in rows_of(op, dtype, outcome, records_of(folder)):
            rows.append(rounded(row))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    text = json.dumps({
        "what": f"`kd run --op OP --device cuda --budget {args.budget} --seed 0`: for each size the winner, or, if none "
                "is faster than MLX, the finalist with the lowest time in a graph",
        "date": datetime.date.today().isoformat(), "machine": {**gpu_machine(), "cores": len(os.sched_getaffinity(0))}, "runtime": runtime, "candidates": tried,
        "proved": proved, "rows": rows}, indent=1) + "\n"
    if args.out == "-":
        sys.stdout.write(text)
    else:
        Path(args.out).write_text(text)


if __name__ == "__main__":
    sys.exit(main())
