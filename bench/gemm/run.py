#!/usr/bin/env python3
"""Dense products on this CPU: mlx_kd.matmul, MLX, MLX with OpenBLAS, and PyTorch, in turn.

    PYTHONPATH=SITE bench/gemm/run.py --torch PYTHON --openblas LIBRARY [--parts square,few_rows] [--rounds 11]
                                      [--types bfloat16,float32] [--out bench/results/gemm_cpu.json]

SITE has the package mlx_kd (pip install --target SITE . in the clone); the Python that runs this has MLX. PYTHON is one
with PyTorch, LIBRARY the file of an OpenBLAS, which is preloaded. Each side is a process of its own, with all cores,
that waits while the others run; a round times every side once, in random order, after a pause in which the threads of
the side before stop waiting for work. Calls of less than 2 ms are timed several together. mlx_kd runs its default kernels, or
the pins of the pack that MLX_KD_KERNEL_PACK names. What takes a side more than --slow seconds it does in fewer rounds:
6, or one where it takes ten times as long. Per row: the median ms of each side, and the median of the paired ratios
peer / mlx_kd with its 95 % bootstrap interval (least and greatest below 6 rounds). Rows that are not measured again stay
in the file of results.
"""
import argparse
import datetime
import json
import os
import random
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import machine, rounded, spread  # noqa: E402

WORKER = Path(__file__).resolve().parent / "worker.py"
SIDES = ("mlx_kd", "MLX", "MLX, OpenBLAS", "PyTorch")


def case(name, m, n, k, transposed="nt", batch=1):
    return {"what": name, "batch": batch, "m": m, "n": n, "k": k, "transposed": transposed}


PARTS = {
    "square": [case(f"{n} x {n} x {n}", n, n, n) for n in (1024, 2048)],
    "large": [case("4096 x 4096 x 4096", 4096, 4096, 4096)],
    "odd": [case("1023 x 1025 x 1027", 1023, 1025, 1027, "nn")],
    "few_rows": [case(f"{m} x 4096 x 4096", m, 4096, 4096) for m in (2, 4, 8, 16)],
    "few_rows_nn": [case(f"{m} x 4096 x 4096, b as it is", m, 4096, 4096, "nn") for m in (2, 4, 8, 16)],
    "tall": [case("32 x 32 x 1000000, a transposed", 32, 32, 1000000, "tn")],
    "batch": [case("64 x 64 x 64, 256 of them", 64, 64, 64, "nn", 256)],
    "tiny": [case("4 x 4 x 4, 100000 of them", 4, 4, 4, "nn", 100000)],
}


class Side:
    """A process that makes the matrices of a case and times their product."""

    def __init__(self, name, args):
        python = args.torch if name == "PyTorch" else sys.executable
        env = dict(os.environ, **({"LD_PRELOAD": args.openblas} if name == "MLX, OpenBLAS" else {}))
        self.process = subprocess.Popen([python, str(WORKER), name], env=env, text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.version = self.ask({"do": "version"})

    def ask(self, question):
        self.process.stdin.write(json.dumps(question) + "\n")
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args[2]} ended: see its message above")
        return json.loads(line)


def rounds_of(first_ms, args):
    seconds = first_ms / 1e3
    return args.rounds if seconds <= args.slow else 6 if seconds <= 10 * args.slow else 1


def measured(one, dtype, sides, args):
    times, rounds = {}, {}
    for name, side in sides.items():
        first = side.ask({"do": "make", "dtype": dtype, **one})
        rounds[name], times[name] = rounds_of(first, args), []
        if rounds[name] == 1:
            times[name].append(first)
    for number in range(args.rounds):
        for name in random.sample(list(sides), len(sides)):
            if len(times[name]) < rounds[name]:
                times[name].append(sides[name].ask({"do": "time"}))
    flops = 2 * one["batch"] * one["m"] * one["n"] * one["k"]
    found = {name: spread(each) for name, each in times.items()}
    ours = times["mlx_kd"]
    ratios = {name: spread([b / a for a, b in zip(ours, each)]) for name, each in times.items() if name != "mlx_kd"}
    row = {**one, "dtype": dtype, "gflops": round(flops / found["mlx_kd"]["median"] / 1e6, 1), "ms": found,
           "ratio": ratios}
    print(f"{dtype} {one['what']}: " + ", ".join(f"{name} {each['median']:.3f} ms" for name, each in found.items()) +
          "; " + ", ".join(f"{name} {each['median']:.2f}x ({each['lo']:.2f} to {each['hi']:.2f})"
                           for name, each in ratios.items()), flush=True)
    return row


def key(row):
    return row["dtype"], row["what"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", help="a Python with PyTorch; left out: it is not compared")
    parser.add_argument("--openblas", help="libopenblas.so; left out: it is not compared")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--types", default="bfloat16,float32")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--slow", type=float, default=1.0)
    parser.add_argument("--without", default="", help="sides that are not timed, as MLX")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    names = [name for name in SIDES if name not in args.without.split(";") and
             (args.torch or name != "PyTorch") and (args.openblas or name != "MLX, OpenBLAS")]
    sides = {name: Side(name, args) for name in names}
    rows = [measured(one, dtype, sides, args)
            for part in args.parts.split(",") for one in PARTS[part] for dtype in args.types.split(",")]
    for side in sides.values():
        side.ask({"do": "end"})
    if not args.out:
        return
    old = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {"rows": [], "versions": {}}
    before = old["rows"]
    new = {key(row): row for row in rows}
    order = [(dtype, one["what"]) for one in sum(PARTS.values(), []) for dtype in ("bfloat16", "float32")]
    merged = {**{key(row): row for row in before}, **new}
    # A side that was left out keeps what it had.
    for row in before:
        if key(row) in new:
            for field in ("ms", "ratio"):
                merged[key(row)][field] = {**row[field], **new[key(row)][field]}
    result = {"date": str(datetime.date.today()), "machine": machine(),
              "versions": {**old["versions"], **{name: side.version for name, side in sides.items()}},
              "what": "one product; b is given transposed unless the row states another form",
              **{field: old[field] for field in ("notes",) if field in old},
              "rows": [rounded(merged[place]) for place in order if place in merged]}
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
