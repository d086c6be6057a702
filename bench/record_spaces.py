#!/usr/bin/env python3
"""Records the spaces of real kernels, for `kd replay` to try strategies on.

    bench/record_spaces.py [--kd ./kd] [--out bench/results/spaces] [--dtype float32] [--budget 4000] [--seconds 420]
                           [--iters 31] [--cores 4] [--again 200] [--only OP...] [--runs DIR]

For each op one `kd run --strategy random` at one size: a random part of its space (all of it, where the budget
reaches), proved and timed as in any run, on --cores processors of its own; ops run side by side as far as processors
go. What was measured when --seconds are over is kept. A second run of the same seed measures the first --again points
once more: how far the two differ is the noise of a recorded value.

Writes OUT/<op>.json.gz, Kernel Tuner caches (kd export --cache), and OUT.json: machine, versions, date, points, seconds
and noise of each. Then: kd replay --spaces OUT --strategy tours --repeats 100 --budgets 50,200
"""
import argparse
import concurrent.futures
import datetime
import gzip
import json
import math
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZES = {
    "rmsnorm": "rows=256,D=2048",
    "rmsnorm_residual": "rows=256,D=2048",
    "swiglu": "rows=256,D=2048",
    "rope": "B=4,H_Q=32,D_NOPE=128,D_ROPE=64",
}
GRACE_S = 45  # for the references before and the final measurement after the search


def run_for(args, op, folder, budget, seconds):
    """One run, ended in good order when its time is over. A run that was cut short is as good as a finished one."""
    command = [args.kd, "run", "--op", op, "--dtype", args.dtype, "--shapes", SIZES[op], "--strategy", "random",
               "--seed", "0", "--budget", str(budget), "--batch", "64", "--time-budget", f"{seconds}s",
               "--iters", str(args.iters), "--finalists", "1", "--out", str(folder), "--quiet"]
    with tempfile.TemporaryFile("w+") as messages:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=messages)
        try:
            code = process.wait(seconds + GRACE_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            code = process.wait()
        messages.seek(0)
        if code not in (0, 130):
            raise RuntimeError(f"{' '.join(command)} ended with {code}: {messages.read()}")


def objectives(folder):
    """What the run minimised, by candidate; NaN for a failure."""
    result = {}
    with open(folder / "run.ndjson") as log:
        for line in log:
            record = json.loads(line)
            if record["event"] in ("evaluation", "failure"):
                result[record["candidate_id"]] = record["metrics"].get("objective", math.nan)
    return result


def noise_of(first, second):
    """Standard deviation of one recorded log time, from points measured in both runs, robust against outliers."""
    differences = [second[id] - first[id] for id in second if math.isfinite(first.get(id, math.nan) - second[id])]
    if len(differences) < 10:
        return None
    middle = statistics.median(differences)
    return 1.4826 * statistics.median(abs(d - middle) for d in differences) / math.sqrt(2)


def record(args, op, runs):
    start = time.time()
    run_for(args, op, runs / op, args.budget, args.seconds)
    seconds = time.time() - start
    subprocess.run([args.kd, "export", "--cache", str(runs / op), "--out", str(args.out / f"{op}.json.gz")], check=True)
    row = summary(args, op, runs, seconds)
    if args.again:
        run_for(args, op, runs / f"{op}.again", args.again, max(5, args.seconds // 10))
        row["noise"] = noise_of(objectives(runs / op), objectives(runs / f"{op}.again"))
    print(f"{op:17} {row['points']} points, {row['valid']} valid, {seconds:.0f} s, noise {row.get('noise')}", flush=True)
    return row


def summary(args, op, runs, seconds):
    values = objectives(runs / op)
    with gzip.open(args.out / f"{op}.json.gz", "rt") as file:
        times = [entry["time"] for entry in json.load(file)["cache"].values()]
    valid = sorted(t for t in times if not isinstance(t, str))
    return {"op": op, "size": SIZES[op], "dtype": args.dtype, "points": len(values), "valid": len(valid),
            "seconds": seconds, "best_us": 1e3 * valid[0], "median_us": 1e3 * statistics.median(valid)}


def core_groups(size):
    """Groups of processors that this process may use; the last one is left out where it would be smaller."""
    cores = sorted(os.sched_getaffinity(0))
    size = min(size, len(cores))
    return [set(cores[i:i + size]) for i in range(0, len(cores) - size + 1, size)]


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.processor())
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "system": f"{platform.system()} {platform.machine()}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kd", default=str(ROOT / "kd"))
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "spaces")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--budget", type=int, default=4000)
    parser.add_argument("--seconds", type=int, default=420, help="of search for an op; what it has then is kept")
    parser.add_argument("--iters", type=int, default=31, help="samples at least of what is not rejected early")
    parser.add_argument("--cores", type=int, default=4, help="processors for an op")
    parser.add_argument("--again", type=int, default=200, help="points to measure twice; 0: none")
    parser.add_argument("--only", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--runs", type=Path, help="folder for the run directories (a temporary one)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    runs = args.runs or Path(tempfile.mkdtemp(prefix="kd_spaces_"))
    groups = core_groups(args.cores)
    free = list(groups)
    with concurrent.futures.ThreadPoolExecutor(len(groups)) as pool:
        def work(op):
            cores = free.pop()
            os.sched_setaffinity(0, cores)  # of this thread, and of the programs that it starts
            try:
                return record(args, op, runs)
            finally:
                free.append(cores)
        rows = list(pool.map(work, args.only))
    meta = json.loads((runs / args.only[0] / "run_meta.json").read_text())
    args.out.with_name(args.out.name + ".json").write_text(json.dumps({
        "date": datetime.date.today().isoformat(), "machine": machine(), "cores_an_op": len(groups[0]),
        "runtime": meta["runtime"], "protocol": meta["protocol"], "mlx_kd": meta["mlx_kd_version"], "seed": 0,
        "iters": args.iters, "spaces": rows}, indent=1, sort_keys=True) + "\n")
    if not args.runs:
        shutil.rmtree(runs)


if __name__ == "__main__":
    sys.exit(main())
