#!/usr/bin/env python3
"""How much of a processor each test of ./kd test takes, with all processes that it starts and waits for.

    bench/test_seconds.py [--build build/release] [-R REGEX] [--objects FOLDER] [--out FILE]

Runs the entries of CTest one after another, as ./kd test does, and takes their processor's time, which a busy machine
stretches less than the clock's. Kernels are compiled into an empty folder, as in a fresh clone, or into --objects.
Without --out it prints. Writes bench/results/test_seconds.json.
"""
import argparse
import datetime
import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from common import machine, write_result

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = 77


def entries_of(build, wanted):
    """(name, command, folder, environment) of each entry that runs."""
    listed = json.loads(subprocess.run(["ctest", "--test-dir", str(build), "--show-only=json-v1"], check=True,
                                       stdout=subprocess.PIPE, text=True).stdout)
    for test in listed["tests"]:
        properties = {one["name"]: one["value"] for one in test.get("properties", [])}
        if "command" in test and not properties.get("DISABLED") and re.search(wanted, test["name"]):
            variables = dict(line.split("=", 1) for line in properties.get("ENVIRONMENT", []))
            yield test["name"], test["command"], properties.get("WORKING_DIRECTORY"), variables


def measured(entry, objects):
    name, command, folder, variables = entry
    environment = {**os.environ, **variables, "MLX_KD_CACHE_DIR": str(objects)}
    before = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {"test": name, "processor_s": round(usage.ru_utime + usage.ru_stime, 2),
            "wall_s": round(time.monotonic() - before, 2), "passed": process.returncode in (0, SKIPPED)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "release")
    parser.add_argument("-R", dest="wanted", metavar="REGEX", default="")
    parser.add_argument("--objects", type=Path)
    parser.add_argument("--out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty:
        rows = [measured(entry, given.objects or empty) for entry in entries_of(given.build, given.wanted)]
    rows.sort(key=lambda row: -row["processor_s"])
    write_result({"what": "Seconds of the processor that each test takes, with the processes that it waits for, one test after "
                          "another, kernels compiled afresh (bench/test_seconds.py)",
                  "date": datetime.date.today().isoformat(), "machine": machine(), "tests": len(rows),
                  "processor_s": round(sum(row["processor_s"] for row in rows), 1),
                  "wall_s": round(sum(row["wall_s"] for row in rows), 1), "longest": rows[:100]}, given.out)


if __name__ == "__main__":
    main()
