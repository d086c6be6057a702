#!/usr/bin/env python3
"""What the operator contract costs, beside a build of an older version, each in turn with it in one run.

    bench/contract.py OLD NEW [--only NAME[,NAME]] [--rounds 5] [--out FILE]

OLD and NEW are build folders with kd, bench_runtime_cost and the Python extension (cmake --preset release
-DMLX_KD_BUILD_BENCH=ON -DMLX_KD_BUILD_PYTHON=ON); NEW has bench_contract too. A sample of one follows one of the other,
the order swapped each round, and a number is the best of the rounds:

  help       kd --help, ms
  import     import mlx_kd after import mlx.core in a fresh process, ms
  runtime    lookup among 10,000 pins in random order on 8 threads, ns of the slowest thread; a pinned call in a graph, us
  first_run  kd run --op rmsnorm_residual --budget 200 --seed 0 with an empty cache, s
  contract   of NEW alone: a barrier between two stages on two cores, us; a table of 60 operators, ms

Writes bench/results/contract.json; with --only the numbers that were not measured stay as they are there.
"""
import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import machine

ROOT = Path(__file__).resolve().parent.parent
TIMED = """
import time, mlx.core
start = time.perf_counter()
import mlx_kd
print(1e3 * (time.perf_counter() - start))
"""
GOALS = {  # name: (what, unit, at most)
    "help": ("kd --help", "ms", 50),
    "import": ("import mlx_kd over mlx.core", "ms", 30),
    "lookup": ("lookup, 10,000 pins, 8 threads", "ns", 100),
    "pinned": ("pinned call in a graph", "us", None),
    "first_run": ("first run, 200 candidates, cold", "s", 60),
    "barrier": ("barrier between CPU stages, 2 cores", "us", 2),
    "table": ("table of 60 operators", "ms", 5),
}


def output(command, **environment):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
                          check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} exits with {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout


def wall(command, **environment):
    start = time.perf_counter()
    output(command, **environment)
    return time.perf_counter() - start


class Measure:
    """Samples of one build by the name of the measurement."""

    def __init__(self, build, scratch):
        self.build, self.scratch, self.site = build, scratch, None

    def help(self):
        return {"help": min(1e3 * wall([self.build / "kd", "--help"]) for _ in range(10))}

    def installed(self):
        if not self.site:
            self.site = self.scratch / "site"
            package = self.site / "mlx_kd"
            output(["cmake", "--install", self.build, "--component", "mlx_kd", "--prefix", package])
            cache = (self.build / "CMakeCache.txt").read_text(encoding="utf-8")
            tree = next(line.partition("=")[2] for line in cache.splitlines() if line.startswith("mlx_kd_SOURCE_DIR:"))
            for path in (Path(tree) / "mlx_kd/python/mlx_kd").rglob("*.py"):
                to = package / path.relative_to(Path(tree) / "mlx_kd/python/mlx_kd")
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(path.read_bytes())
            output([sys.executable, "-c", TIMED], PYTHONPATH=str(self.site))  # writes the bytecode
        return self.site

    def imports(self):
        site = str(self.installed())
        return {"import": min(float(output([sys.executable, "-c", TIMED], PYTHONPATH=site)) for _ in range(5))}

    def runtime(self):
        folder = self.scratch / "runtime"
        folder.mkdir(mode=0o700, exist_ok=True)
        made = json.loads(output([self.build / "bench/bench_runtime_cost", folder], MLX_KD_CACHE_DIR=str(folder / "cache")))
        return {"lookup": max(made["lookup"]["ns_random_sizes_by_thread"]),
                "pinned": made["pinned"]["in_a_graph_of_100"]["us_runtime"]}

    def first_run(self):
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            return {"first_run": wall([self.build / "kd", "run", "--op", "rmsnorm_residual", "--budget", "200", "--seed", "0",
                                       "--quiet", "--out", f"{folder}/run"], MLX_KD_CACHE_DIR=f"{folder}/cache")}

    def contract(self):
        made = json.loads(output([self.build / "bench/bench_contract"]))
        return {"barrier": made["barrier_us"], "table": made["table_ms"]}


KINDS = {"help": Measure.help, "import": Measure.imports, "runtime": Measure.runtime, "first_run": Measure.first_run,
         "contract": Measure.contract}


def samples_of(kind, sides, rounds):
    """{name: {side: [samples]}}; the first of the sides is the older one, which has no contract."""
    found = {}
    for number in range(rounds):
        order = list(sides.items())[::-1 if number % 2 else 1]
        for side, measure in order:
            if kind == "contract" and side == "old":
                continue
            for name, value in KINDS[kind](measure).items():
                found.setdefault(name, {}).setdefault(side, []).append(value)
    return found


def row_of(name, samples, loads):
    what, unit, most = GOALS[name]
    row = {"what": what, "unit": unit, "goal": "not slower" if most is None else f"at most {most}"}
    for side in ("old", "new"):
        row[side] = round(min(samples[side]), 4) if side in samples else ""
    row["samples"] = {side: [round(value, 4) for value in values] for side, values in samples.items()}
    return {"name": name, **row, "rounds": max(map(len, samples.values())), "load": loads}


def commit_of(build):
    cache = (build / "CMakeCache.txt").read_text(encoding="utf-8")
    tree = next(line.partition("=")[2] for line in cache.splitlines() if line.startswith("mlx_kd_SOURCE_DIR:"))
    return output(["git", "-C", tree, "rev-parse", "--short=7", "HEAD"]).strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--only", default=",".join(KINDS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "contract.json")
    args = parser.parse_args()
    kinds = args.only.split(",")
    if unknown := set(kinds) - set(KINDS):
        sys.exit(f"--only {','.join(sorted(unknown))}: choose of {', '.join(KINDS)}")
    rows = {}
    if args.out.exists():
        rows = {row["name"]: row for row in json.loads(args.out.read_text(encoding="utf-8"))["rows"]}
    with tempfile.TemporaryDirectory() as folder:
        sides = {}
        for side, build in (("old", args.old), ("new", args.new)):
            scratch = Path(folder) / side
            scratch.mkdir()
            sides[side] = Measure(build.resolve(), scratch)
        for kind in kinds:
            for name, samples in samples_of(kind, sides, args.rounds).items():
                rows[name] = row_of(name, samples, round(os.getloadavg()[0], 2))
    result = {"what": "The operator contract beside the version before it, sample by sample in turn: best of the rounds",
              "date": datetime.date.today().isoformat(), "machine": machine(), "old_commit": commit_of(args.old.resolve()),
              "new_commit": commit_of(args.new.resolve()), "rows": [rows[name] for name in GOALS if name in rows]}
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in result["rows"]:
        print(f"{row['what']}: {row['old']} -> {row['new']} {row['unit']} ({row['goal']})")


if __name__ == "__main__":
    main()
