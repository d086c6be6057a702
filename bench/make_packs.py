#!/usr/bin/env python3
"""The shipped pack of this machine: from every suite to packs/ARCH-NAME.json, with its evidence.

    bench/make_packs.py [--kd ./kd] [--budget 100] [--dtypes float16 bfloat16 float32] [--only OP[:SUITE]]
                        [--runs DIR] [--packs DIR] [--evidence DIR] [--manifest FILE] [--dry-run]

For each op, suite and type one `kd run` (an interrupted run continues), then `kd manifest --add`, which keeps
what was run under bench/evidence and writes the manifest, and `kd pack`, which merges the winners with the existing
pack. A winner is a kernel whose speed-up over MLX has its whole 95 % interval above 1; a suite without one adds
nothing. Run it on a machine that does nothing else; the load is printed at the start and the end.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def say(text):
    print(text, file=sys.stderr, flush=True)


def jobs(kd, dtypes, only):
    """(op, suite, dtype): every suite that the program has, types outermost, so that a broken series is even."""
    ops = json.loads(subprocess.run([kd, "ops", "--json"], stdout=subprocess.PIPE, check=True).stdout)
    for dtype in dtypes:
        for op in ops:
            for suite in op["suites"]:
                if not only or only in (op["name"], f"{op['name']}:{suite}"):
                    yield op["name"], suite, dtype


def run_one(args, op, suite, dtype):
    folder = Path(args.runs) / f"{op}.{suite}.{dtype}"
    subprocess.run([args.kd, "run", "--op", op, "--shapes", suite, "--dtype", dtype, "--device", "cpu", "--budget",
                    str(args.budget), "--seed", "0", "--resume", "--quiet", "--json", "--out", str(folder)],
                   stdout=subprocess.DEVNULL, check=True)
    return folder


def winners_of(folder):
    return json.loads((folder / "best_kernels.json").read_text())["entries"]


def pack_name(entry):
    key = entry["key"]
    return re.sub(r"[^a-z0-9_]+", "-", f"{key['device_arch']}-{key['device_name']}".lower()).strip("-") + ".json"


def make_pack(args, folders):
    with_winners = [folder for folder in folders if winners_of(folder)]
    if not with_winners:
        return say("no kernel was surely faster than MLX: no pack")
    pack = Path(args.packs) / pack_name(winners_of(with_winners[0])[0])
    pack.parent.mkdir(parents=True, exist_ok=True)
    # What is there joins in, but for runs of an older protocol or MLX: theirs is another pin or another measurement.
    before = [str(pack)] if pack.exists() else []
    runs = [str(folder) for folder in with_winners]
    protocol = json.loads((with_winners[0] / "run_meta.json").read_text())["protocol"]
    subprocess.run([args.kd, "pack", "--runs", *runs, *before, "--prefer-protocol", protocol, "--out", str(pack)],
                   stdout=subprocess.DEVNULL, check=True)
    say(f"{pack}: {len(json.loads(pack.read_text())['entries'])} entries")


def keep_evidence(args, folders):
    command = [args.kd, "manifest", "--evidence", args.evidence, "--packs", args.packs, "--output", args.manifest]
    for folder in folders:
        command += ["--add", str(folder)]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, cwd=ROOT)
    say(args.manifest)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kd", default=str(ROOT / "kd"))
    parser.add_argument("--budget", type=int, default=100, help="candidates per run")
    parser.add_argument("--dtypes", nargs="+", default=["float16", "bfloat16", "float32"])
    parser.add_argument("--only", help="OP or OP:SUITE")
    parser.add_argument("--runs", default=str(ROOT / "runs" / "packs"))
    parser.add_argument("--packs", default="packs", help="as the manifest calls it, from the root of the tree")
    parser.add_argument("--evidence", default="bench/evidence", help="likewise")
    parser.add_argument("--manifest", default="configs/kd_phase0_model_manifest.json", help="likewise")
    parser.add_argument("--dry-run", action="store_true", help="only print what would be run")
    args = parser.parse_args()
    os.chdir(ROOT)
    planned = list(jobs(args.kd, args.dtypes, args.only))
    if args.dry_run:
        return print("\n".join(" ".join(job) for job in planned))
    say(f"{len(planned)} runs of {args.budget} candidates; load {os.getloadavg()[0]:.2f}")
    start, folders = time.monotonic(), []
    for number, job in enumerate(planned, 1):
        folders.append(run_one(args, *job))
        say(f"{number}/{len(planned)} {' '.join(job)}: {len(winners_of(folders[-1]))} winners, "
            f"{time.monotonic() - start:.0f} s")
    make_pack(args, folders)
    keep_evidence(args, folders)
    say(f"load {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
