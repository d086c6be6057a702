#!/usr/bin/env python3
"""How long a unit of a cold build takes to compile, at different levels of optimisation, and how many each target has.

    bench/build_units.py [--build build/release] [--jobs 2] [--seconds 600] [--target NAME]... [--out FILE]

Runs the commands of the build's compile_commands.json without a compiler cache, some at a time, with their objects
thrown away, and takes the processor's time of each, which a busy machine stretches less than the clock's. Without
--out it prints. Of each target the largest unit is compiled, at every level of LEVELS; after --seconds no other is
begun, and what is missing is left out, with a message. Writes bench/results/build_units.json.
"""
import argparse
import concurrent.futures
import datetime
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import machine, write_result

ROOT = Path(__file__).resolve().parent.parent
# Target: levels at which its largest unit is compiled, the build's own first.
LEVELS = {"mlx_kd_kernels": (1, 3), "mlx_kd_devices": (1, 2, 3), "mlx_kd_runtime": (2, 3), "mlx_kd_msl": (1, 3),
          "mlx_kd_archive": ("g", 1), "mlx_kd_cli": ("g", 1, 0), "test_cli": (0, 1), "test_packs": (0, 1), "test_devices": (0, 1)}


def units_of(build):
    """Target -> its units, (sources, command, folder) each."""
    found = {}
    for one in json.loads((build / "compile_commands.json").read_text()):
        words = shlex.split(one["command"])
        if os.path.basename(words[0]) == "ccache":
            del words[0]
        target = re.search(r"CMakeFiles/([\w-]+)\.dir/", words[words.index("-o") + 1]).group(1)
        text = Path(one["file"]).read_text() if "/Unity/" in one["file"] else ""
        found.setdefault(target, []).append((max(1, text.count("#include")), words, one["directory"]))
    return found


def seconds_of(unit, level):
    """Of the processor, for one compile."""
    _, words, folder = unit
    with tempfile.TemporaryDirectory() as scratch:
        words = list(words)
        at = words.index("-o")
        words[at + 1] = os.path.join(scratch, "unit.o")
        words[at:at] = [f"-O{level}"]  # the last one counts
        process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{shlex.join(words)} fails: build the tree first")
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "release")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--target", action="append", choices=LEVELS)
    parser.add_argument("--out")
    given = parser.parse_args()
    end, units = time.monotonic() + given.seconds, units_of(given.build)
    largest = {target: max(units[target], key=lambda unit: unit[0]) for target in given.target or LEVELS if target in units}
    # One level after the other, so that a measurement that is cut has the build's own of all targets.
    tasks = [(target, levels[turn]) for turn in range(3) for target, levels in LEVELS.items()
             if target in largest and turn < len(levels)]

    def measured(task):
        return seconds_of(largest[task[0]], task[1]) if time.monotonic() < end else None

    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        seconds = dict(zip(tasks, pool.map(measured, tasks)))
    for target, level in (task for task, value in seconds.items() if value is None):
        print(f"no time was left for {target} at -O{level}", file=sys.stderr)
    rows = [{"unit": f"{target}, {largest[target][0]} sources",
             **{f"O{level}": round(seconds[target, level], 1) for level in LEVELS[target] if seconds[target, level]}}
            for target in largest]
    write_result({"what": f"Seconds of the processor to compile the largest unit of a target, a folder's sources together, "
                          f"at different levels of optimisation, {given.jobs} units at a time (bench/build_units.py)",
                  "date": datetime.date.today().isoformat(), "machine": machine(),
                  "units_of_target": {target: len(all_of) for target, all_of in sorted(units.items())}, "units": rows}, given.out)


if __name__ == "__main__":
    main()
