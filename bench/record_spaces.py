#!/usr/bin/env python3
"""Records the spaces of real kernels, for `kd replay` to try strategies on.

    bench/record_spaces.py [--kd ./kd] [--out bench/results/spaces] [--dtype float32] [--only OP...] [--seconds 500]
                           [--passes 2] [--cores 4] [--points 4500] [--iters N] [--runs DIR]

For each op, at one size, --passes times `kd run --strategy random` of the same seed: a random part of its space (all of
it, where --points reach), proved and timed as in any run. Passes after the first find their kernels compiled. A point
counts with the geometric mean of its passes without the extremes (of two: of both), and how far passes differ is the
noise of a recorded value. Ops run side by side on --cores processors each, as far as processors go; all is over after
--seconds, whatever was reached, save half a minute at the start and the end. Passes that are in --runs already are read
and not run again.

Writes OUT/<op>.json.gz, Kernel Tuner caches, and OUT.json: machine, versions, date, points, seconds, noise of each.
Then: kd replay --spaces OUT --strategy tours --repeats 100 --budgets 50,200
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
FIRST_PASS = 0.62  # of an op's seconds, where others follow: it compiles, they do not
GRACE_S = 30       # for the references before and the final measurement after a search
FEW = 10           # points measured twice, below which no noise is told


def run_for(args, op, folder, points, seconds):
    """One run, ended in good order when its time is over. A run that was cut short is as good as a finished one."""
    command = [args.kd, "run", "--op", op, "--dtype", args.dtype, "--shapes", SIZES[op], "--strategy", "random",
               "--seed", "0", "--budget", str(points), "--batch", "32", "--time-budget", f"{max(1, int(seconds))}s",
               "--finalists", "1", "--out", str(folder), "--quiet"]
    if args.iters:
        command += ["--iters", str(args.iters)]
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


def cache_of(args, folder):
    export = [args.kd, "export", "--cache", str(folder)]
    return json.loads(subprocess.run(export, check=True, stdout=subprocess.PIPE).stdout)


def measured(entry):
    return not isinstance(entry["time"], str)


def logs_by_point(caches):
    """By key, the log time of each pass that measured it, less what the pass as a whole lies over the first."""
    first = {key: math.log(entry["time"]) for key, entry in caches[0].items() if measured(entry)}
    logs = {key: [value] for key, value in first.items()}
    for cache in caches[1:]:
        later = {key: math.log(cache[key]["time"]) for key in first if key in cache and measured(cache[key])}
        shift = statistics.median(value - first[key] for key, value in later.items()) if later else 0
        for key, value in later.items():
            logs[key].append(value - shift)
    return logs


def middle(values):
    """Mean without the least and the greatest, where there are more than two."""
    return statistics.mean(sorted(values)[1:-1] if len(values) > 2 else values)


def take_middles(cache, logs):
    for key, values in logs.items():
        cache[key]["times"] = [math.exp(value) for value in values]
        cache[key]["time"] = math.exp(middle(values))


def noise_of(logs, keys):
    """Standard deviation of the log of a single pass, robust against outliers. Of a mean of n passes: over sqrt(n)."""
    known = [abs(a - b) for key in keys for a, b in zip(logs[key], logs[key][1:])]
    return 1.4826 * statistics.median(known) / math.sqrt(2) if len(known) >= FEW else None


def record(args, op, runs, seconds):
    start = time.monotonic()
    files = []
    for i in range(args.passes):
        folder = runs / f"{op}.{i + 1}"
        left = seconds - (time.monotonic() - start)
        if not (folder / "best_kernels.json").exists():
            run_for(args, op, folder, args.points, FIRST_PASS * left if i == 0 and args.passes > 1 else left)
        files.append(cache_of(args, folder))
    cache = files[0]["cache"]
    logs = logs_by_point([file["cache"] for file in files])
    take_middles(cache, logs)
    with gzip.GzipFile(args.out / f"{op}.json.gz", "wb", mtime=0) as out:
        out.write(json.dumps(files[0]).encode())
    row = summary(args, op, cache, logs)
    row["seconds"] = round(time.monotonic() - start, 1)
    print(f"{op:17} {row['points']} points, {row['valid']} valid, {row['passes']} passes, "
          f"{row['seconds']:.0f} s, noise {row['noise']}, of the best tenth {row['noise_of_best']}", flush=True)
    return row


def summary(args, op, cache, logs):
    valid = sorted((entry["time"], key) for key, entry in cache.items() if measured(entry))
    best = [key for _, key in valid[:max(1, len(valid) // 10)]]
    return {"op": op, "size": SIZES[op], "dtype": args.dtype, "points": len(cache), "valid": len(valid),
            "passes": args.passes, "best_us": 1e3 * valid[0][0], "median_us": 1e3 * valid[len(valid) // 2][0],
            "noise": noise_of(logs, logs), "noise_of_best": noise_of(logs, best)}


def core_groups(size):
    """Groups of processors that this process may use; the last one is left out where it would be smaller."""
    cores = sorted(os.sched_getaffinity(0))
    size = min(size, len(cores))
    return [set(cores[i:i + size]) for i in range(0, len(cores) - size + 1, size)]


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.processor())
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "system": f"{platform.system()} {platform.machine()}"}


def record_all(args, runs):
    groups = core_groups(args.cores)
    rounds = math.ceil(len(args.only) / len(groups))
    free = list(groups)

    def work(op):
        cores = free.pop()
        os.sched_setaffinity(0, cores)  # of this thread, and of the programs that it starts
        try:
            return record(args, op, runs, args.seconds / rounds)
        finally:
            free.append(cores)

    with concurrent.futures.ThreadPoolExecutor(len(groups)) as pool:
        return list(pool.map(work, args.only)), len(groups[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kd", default=str(ROOT / "kd"))
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "spaces")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--only", nargs="+", choices=SIZES, default=list(SIZES), metavar="OP")
    parser.add_argument("--seconds", type=float, default=500, help="for everything")
    parser.add_argument("--cores", type=int, default=4, help="processors for an op")
    parser.add_argument("--passes", type=int, default=2, help="how often each point is measured")
    parser.add_argument("--points", type=int, default=4500, help="of an op, at most")
    parser.add_argument("--iters", type=int, help="samples at least of what is not rejected early")
    parser.add_argument("--runs", type=Path, help="folder for the run directories (a temporary one)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    runs = args.runs or Path(tempfile.mkdtemp(prefix="kd_spaces_"))
    subprocess.run([args.kd, "devices"], check=True, stdout=subprocess.DEVNULL)  # builds, where it has to
    rows, cores = record_all(args, runs)
    meta = json.loads((runs / f"{args.only[0]}.1" / "run_meta.json").read_text())
    args.out.with_name(args.out.name + ".json").write_text(json.dumps({
        "date": datetime.date.today().isoformat(), "machine": machine(), "cores_an_op": cores,
        "runtime": meta["runtime"], "protocol": meta["protocol"], "mlx_kd": meta["mlx_kd_version"], "seed": 0,
        "iters": args.iters, "spaces": rows}, indent=1, sort_keys=True) + "\n")
    if not args.runs:
        shutil.rmtree(runs)


if __name__ == "__main__":
    sys.exit(main())
