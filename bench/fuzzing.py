#!/usr/bin/env python3
"""How many inputs each fuzzer of tests/fuzz took, with the address and undefined-behaviour sanitizers.

    KD_PRESET=fuzz ./kd test -R fuzz     # builds them
    bench/fuzzing.py [--build build/fuzz] [--runs 1000000] [--only pack,tune] [--out FILE]

Runs the fuzzers one after the other and writes bench/results/fuzzing.json after each; targets that the file has
already are kept where they are not run again. An input that ends a fuzzer is left in the folder --artifacts.
"""
import argparse
import datetime
import json
import re
import subprocess
import time
from pathlib import Path

from common import machine, write_result

ROOT = Path(__file__).resolve().parent.parent


def fuzz(program, args):
    """What one fuzzer did."""
    args.artifacts.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    command = [program, f"-runs={args.runs}", "-rss_limit_mb=2048", "-timeout=60", "-print_final_stats=1",
               f"-artifact_prefix={args.artifacts}/{program.name}_"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          check=False)
    stat = {name: int(value) for name, value in re.findall(r"stat::(\w+):\s+(\d+)", done.stdout)}
    edges = re.findall(r"cov: (\d+)", done.stdout)
    result = {"target": program.name.removeprefix("fuzz_"), "inputs": stat.get("number_of_executed_units", 0),
              "seconds": round(time.monotonic() - begin), "crashes": int(done.returncode != 0),
              "edges": int(edges[-1]) if edges else 0, "slowest_input_s": stat.get("slowest_unit_time_sec", 0),
              "peak_rss_mb": stat.get("peak_rss_mb", 0)}
    if done.returncode:
        print(done.stdout[-4000:], flush=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--runs", type=int, default=1000000)
    parser.add_argument("--only", default="")
    parser.add_argument("--artifacts", type=Path, default=ROOT / "build" / "fuzz" / "artifacts")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "fuzzing.json")
    args = parser.parse_args()
    known = json.loads(args.out.read_text(encoding="utf-8"))["targets"] if args.out.exists() else []
    targets = {one["target"]: one for one in known}
    wanted = set(filter(None, args.only.split(",")))
    for program in sorted(args.build.glob("fuzz_*")):
        name = program.name.removeprefix("fuzz_")
        if not program.is_file() or (wanted and name not in wanted):
            continue
        targets[name] = fuzz(program, args)
        print(targets[name], flush=True)
        write_result({"what": "fuzzers of tests/fuzz with libFuzzer", "date": datetime.date.today().isoformat(),
                      "machine": machine(), "sanitizers": ["address", "undefined"],
                      "targets": [targets[key] for key in sorted(targets)]}, args.out)


if __name__ == "__main__":
    main()
