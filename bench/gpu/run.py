#!/usr/bin/env python3
"""Decode on an NVIDIA GPU in one run: mlx-lm, the same model patched, torch.compile with CUDA graphs, the memory's rate.

    bench/gpu/run.py [--models llama-8b,qwen3-4b] [--bits 4,16] [--sides mlx,torch] [--context 512] [--tokens 128]
                     [--pack FILE] [--out FILE]

Each side of each model is a process of its own, except MLX's and ours, which take turns in one. Writes the medians of
the turns with their range as bench/results/decode_*.json has them. A side that cannot run says why in its row. Needs
mlx-lm, and PyTorch for its side and the memory's rate.
"""
import argparse
import datetime
import json
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import models  # noqa: E402
from common import rounded, write_result  # noqa: E402

WORKER = Path(__file__).resolve().parent / "worker.py"


def run(*arguments, limit=600):
    """What a worker prints, or {"error": ...}."""
    command = [sys.executable, str(WORKER), *map(str, arguments)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {limit} s"}
    if done.returncode != 0:
        return {"error": done.stderr.strip().split("\n")[-1][:300]}
    return json.loads(done.stdout.strip().split("\n")[-1])


def summary(turns, read_bytes, gbps):
    """Tokens a second: the median turn and the range; the share of the memory's rate, and the host's times."""
    rates = sorted(1e3 / turn["ms"] for turn in turns)
    middle = statistics.median(rates)
    row = {"tok_s": middle, "range": [rates[0], rates[-1]]}
    if gbps:
        row["roof"] = read_bytes * middle / 1e9 / gbps
    for key in ("python_ms", "queue_ms"):
        if key in turns[0]:
            row[key] = statistics.median(turn[key] for turn in turns)
    return row


def row_of(args, name, bits, gbps, versions):
    read_bytes = models.weight_bytes(models.MODELS[name], bits)
    row = {"model": name, "bits": bits, "weight_gb": read_bytes / 1e9}
    pack = [args.pack] if args.pack else []
    for side in args.sides.split(","):
        made = run(side, name, bits, args.context, args.tokens, *(pack if side == "mlx" else []))
        if "error" in made:
            row.setdefault("errors", []).append(made["error"])
        for timed in ("mlx", "ours", "torch"):
            if timed in made:
                row[timed] = summary(made[timed], read_bytes, gbps)
        row.update({key: made[key] for key in ("first_s", "mlx_operations", "ours_operations", "logits_off", "pins",
                                               "replaced", "left") if key in made})
        versions.update({key: made[key] for key in ("mlx_version", "torch_version") if key in made})
    print(json.dumps(rounded(row)), file=sys.stderr, flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default="llama-8b,qwen3-4b")
    parser.add_argument("--bits", default="4,16")
    parser.add_argument("--sides", default="mlx,torch", help="mlx (and ours), torch")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--pack", help="pins to use; left out: the shipped ones")
    parser.add_argument("--out", default="-", help="a file, or - for stdout")
    args = parser.parse_args()
    names = args.models.split(",")
    if unknown := [name for name in names if name not in models.MODELS]:
        parser.error(f"--models has {', '.join(unknown)}: give names of {', '.join(models.MODELS)}")
    if not set(args.sides.split(",")) <= {"mlx", "torch"}:
        parser.error(f"--sides is {args.sides}: give mlx, torch or both")
    roof, versions = run("roof"), {}
    rows = [row_of(args, name, int(bits), roof.get("copy_gbps"), versions)
            for name in names for bits in args.bits.split(",")]
    result = {"what": f"tokens per second of one sequence after {args.context} tokens of context, random weights",
              "machine": {"gpu": roof.get("gpu", "unknown"), "mlx": versions.get("mlx_version")},
              "date": datetime.datetime.now().isoformat(timespec="seconds"),
              "versions": versions, "context": args.context, "tokens": args.tokens, "roof": roof, "rows": rows}
    write_result(rounded(result), args.out)
    return 1 if any("errors" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
