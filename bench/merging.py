#!/usr/bin/env python3
"""How long kd pack takes to merge many runs, and its memory.

    bench/merging.py [--kd build/release/kd] [--runs 10000] [--entries 20] [--keys 20000] [--out FILE]

The runs are made of the entries of packs/x86_64-amd-epyc.json, with sizes and device names of their own. Writes
bench/results/merging.json.
"""
import argparse
import datetime
import json
import os
import random
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from common import machine, write_result

ROOT = Path(__file__).resolve().parent.parent
DEVICES = 50  # so many machines measured the runs


def write_runs(folder, args):
    """The keys are the entries of the pack on each device, at sizes that count up; a run has one operator."""
    generator = random.Random(0)
    pack = json.loads((ROOT / "packs" / "x86_64-amd-epyc.json").read_text(encoding="utf-8"))
    shipped, names, keys = pack["entries"], [], {}
    for key in range(args.keys):
        keys.setdefault(shipped[key % len(shipped)]["key"]["op_name"], []).append(key)
    for run in range(args.runs):
        entries, hashes = [], set()
        for key in generator.sample(keys[generator.choice(sorted(keys))], args.entries):
            entry = json.loads(json.dumps(shipped[key % len(shipped)]))
            entry["key"]["device_name"] = f"CPU {key % DEVICES}"
            entry["key"]["shape_signature"]["rows"] = 1 + key
            for name in ("kernel_us", "latency_us"):
                entry["metrics"][name] *= generator.uniform(0.8, 1.2)
            entries.append(entry)
            hashes.add(entry["source_hash"])
        text = json.dumps({**pack, "entries": entries, "sources": {name: pack["sources"][name] for name in hashes}},
                          separators=(",", ":"))
        path = folder / f"run{run}" / "best_kernels.json"
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8")
        names.append(path.parent.name)
    return names


def processor_seconds():
    """That the commands so far have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kd", default=str(ROOT / "build" / "release" / "kd"))
    parser.add_argument("--runs", type=int, default=10000)
    parser.add_argument("--entries", type=int, default=20)
    parser.add_argument("--keys", type=int, default=20000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", default=str(ROOT / "bench" / "results" / "merging.json"))
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kd_merging_"))
    try:
        names = write_runs(folder, args)
        read = sum((folder / name / "best_kernels.json").stat().st_size for name in names)
        seconds, of_processors = [], []
        for _ in range(args.repeats):
            start, used = time.perf_counter(), processor_seconds()
            done = subprocess.run([args.kd, "pack", "--runs", *names, "--out", "all.json"], cwd=folder, check=True,
                                  stdout=subprocess.PIPE, text=True)
            seconds.append(time.perf_counter() - start)
            of_processors.append(processor_seconds() - used)
            print(done.stdout.splitlines()[-1], f"{seconds[-1]:.1f} s, {of_processors[-1]:.1f} s of a processor", flush=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        result = {"what": "kd pack of many runs", "date": datetime.date.today().isoformat(), "machine": machine(),
                  "runs": args.runs, "entries_read": args.runs * args.entries, "bytes_read": read,
                  "bytes_written": os.path.getsize(folder / "all.json"),
                  "entries_written": len(json.loads((folder / "all.json").read_text(encoding="utf-8"))["entries"]),
                  "seconds": [round(one, 2) for one in seconds],
                  "processor_seconds": [round(one, 2) for one in of_processors], "peak_bytes": peak}
        write_result(result, args.out)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
