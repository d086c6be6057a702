#!/usr/bin/env python3
"""Records the spaces of real kernels, for `kd replay` to try strategies on.

    bench/record_spaces.py [--kd ./kd] [--out bench/results/spaces] [--dtype float32] [--only OP...] [--seconds 500]
                           [--cores 4] [--points 4500] [--iters N] [--runs DIR]

For each op, at one size, two `kd run --strategy random` of the same seed: a random part of its space (all of it, where
--points reach), proved and timed as in any run. The second pass finds its kernels compiled; a point that both passes
measured counts with the geometric mean of the two, and how far they differ is the noise of a recorded value. Ops run
side by side on --cores processors each, as far as processors go; all is over after --seconds, whatever was reached,
save half a minute at the start and the end.

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
FIRST_PASS = 0.62  # of an op's seconds: it compiles, the second does not
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


def log_ratios(first, second):
    """By key, the log of what the second pass measured over what the first did, less its median: passes drift apart."""
    both = [key for key in first if key in second and measured(first[key]) and measured(second[key])]
    ratios = {key: math.log(second[key]["time"] / first[key]["time"]) for key in both}
    middle = statistics.median(ratios.values()) if ratios else 0
    return {key: ratio - middle for key, ratio in ratios.items()}


def average(cache, ratios):
    for key, ratio in ratios.items():
        entry = cache[key]
        entry["times"] = [entry["time"], entry["time"] * math.exp(ratio)]
        entry["time"] *= math.exp(ratio / 2)


def noise_of(ratios, keys):
    """Standard deviation of the log of a mean of two passes, robust against outliers."""
    known = [abs(ratios[key]) for key in keys if key in ratios]
    return 1.4826 * statistics.median(known) / 2 if len(known) >= FEW else None


def record(args, op, runs, seconds):
    start = time.monotonic()
    run_for(args, op, runs / op, args.points, FIRST_PASS * seconds)
    left = seconds - (time.monotonic() - start)
    run_for(args, op, runs / f"{op}.again", args.points, left)
    file = cache_of(args, runs / op)
    again = cache_of(args, runs / f"{op}.again")
    cache = file["cache"]
    ratios = log_ratios(cache, again["cache"])
    average(cache, ratios)
    with gzip.GzipFile(args.out / f"{op}.json.gz", "wb", mtime=0) as out:
        out.write(json.dumps(file).encode())
    row = summary(args, op, cache, ratios)
    row["seconds"] = round(time.monotonic() - start, 1)
    print(f"{op:17} {row['points']} points, {row['valid']} valid, {row['twice']} of them twice, "
          f"{row['seconds']:.0f} s, noise {row['noise']}, of the best tenth {row['noise_of_best']}", flush=True)
    return row


def summary(args, op, cache, ratios):
    valid = sorted((entry["time"], key) for key, entry in cache.items() if measured(entry))
    best = [key for _, key in valid[:max(1, len(valid) // 10)]]
    return {"op": op, "size": SIZES[op], "dtype": args.dtype, "points": len(cache), "valid": len(valid),
            "twice": len(ratios), "best_us": 1e3 * valid[0][0], "median_us": 1e3 * valid[len(valid) // 2][0],
            "noise": noise_of(ratios, ratios), "noise_of_best": noise_of(ratios, best)}


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
    parser.add_argument("--points", type=int, default=4500, help="of an op, at most")
    parser.add_argument("--iters", type=int, help="samples at least of what is not rejected early")
    parser.add_argument("--runs", type=Path, help="folder for the run directories (a temporary one)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    runs = args.runs or Path(tempfile.mkdtemp(prefix="kd_spaces_"))
    subprocess.run([args.kd, "devices"], check=True, stdout=subprocess.DEVNULL)  # builds, where it has to
    rows, cores = record_all(args, runs)
    meta = json.loads((runs / args.only[0] / "run_meta.json").read_text())
    args.out.with_name(args.out.name + ".json").write_text(json.dumps({
        "date": datetime.date.today().isoformat(), "machine": machine(), "cores_an_op": cores,
        "runtime": meta["runtime"], "protocol": meta["protocol"], "mlx_kd": meta["mlx_kd_version"], "seed": 0,
        "iters": args.iters, "spaces": rows}, indent=1, sort_keys=True) + "\n")
    if not args.runs:
        shutil.rmtree(runs)


if __name__ == "__main__":
    sys.exit(main())
