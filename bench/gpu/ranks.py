#!/usr/bin/env python3
"""kd run on several GPUs of one host: how much sooner is a search over, next to one GPU, and is it the same pack's?

    bench/gpu/ranks.py --kd build/release/kd [--ranks 2] [--op swiglu] [--shapes rows=64,D=4096] [--budget 60]
                       [--device cuda] [--out FILE]

Runs the same search as one process on the first GPU and as a ring of ranks, of which each sees one GPU
(CUDA_VISIBLE_DEVICES). Writes seconds, evaluations, what finished.json says of the devices, and whether any kernel was
evaluated twice. A run that ends without finished.json is an error.
"""
import argparse
import datetime
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import gpu_machine, machine, rounded, write_result  # noqa: E402


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(args, out, rank, ranks, hosts):
    env = dict(os.environ, CUDA_VISIBLE_DEVICES=str(rank))
    if ranks > 1:
        env.update(MLX_RANK=str(rank), MLX_HOSTFILE=str(hosts))
    command = [args.kd, "run", "--op", args.op, "--dtype", args.dtype, "--shapes", args.shapes, "--device", args.device,
               "--budget", str(args.budget), "--batch", "4", "--seed", "1", "--out", str(out), "--quiet"]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def search(args, folder, ranks):
    out, hosts = folder / f"of_{ranks}", folder / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(ranks)]))
    begin = time.monotonic()
    started = [start(args, out, rank, ranks, hosts) for rank in range(ranks)]
    texts = [one.communicate()[0] for one in started]
    seconds = time.monotonic() - begin
    if any(one.returncode for one in started) or (ranks > 1 and not (out / "finished.json").exists()):
        sys.exit("\n".join(texts))
    lines = [json.loads(line) for line in (out / "run.ndjson").read_text().splitlines()]
    tried = [line["candidate_id"] for line in lines if line["event"] in ("evaluation", "failure")]
    row = {"ranks": ranks, "seconds": seconds, "evaluations": len(tried), "twice": len(tried) - len(set(tried)),
           "winners": len(json.loads((out / "best_kernels.json").read_text())["entries"])}
    if ranks > 1:
        row["devices"] = json.loads((out / "finished.json").read_text())["devices"]
    print(json.dumps(rounded(row)), file=sys.stderr, flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kd", default="kd")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--op", default="swiglu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--shapes", default="rows=64,D=4096")
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", default="-", help="a file, or - for stdout")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kd_ranks_") as temp:
        rows = [search(args, Path(temp), ranks) for ranks in (1, args.ranks)]
    write_result({"what": "One search on one GPU and on several of one host (bench/gpu/ranks.py)", "op": args.op,
                  "dtype": args.dtype, "shapes": args.shapes, "budget": args.budget, "device": args.device,
                  "date": datetime.date.today().isoformat(),
                  "machine": {**machine(), **(gpu_machine() if args.device.startswith("cuda") else {})},
                  "runs": rows}, args.out)


if __name__ == "__main__":
    main()
