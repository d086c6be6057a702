#!/usr/bin/env python3
"""Factorisations of batches of matrices on this CPU: mlx_kd and MLX, paired, in one process for each BLAS.

    bench/linalg/run.py [--ops qr+lu+...] [--dtype float32] [--rounds 15] [--openblas libopenblas.so.0]
                        [--out bench/results/linalg_cpu.json]

Run it with a Python that has mlx_kd. MLX's wheel brings reference BLAS and LAPACK; with --openblas the same rows are
measured once more in a process that has that library preloaded. The operators of mlx_kd run at their default setting,
without pins. Each side evaluates one call, in random order within a round. Per row: the median time of each side in ms,
and the median of the paired ratios MLX / mlx_kd with its 95 % bootstrap interval. Rows that are not measured again stay
in the file of results.
"""
import argparse
import datetime
import functools
import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import machine, rounded, spread, write_result  # noqa: E402

BATCHES = ((4096, 16), (1024, 32), (64, 64), (256, 128))  # of the geometric mean
SINGLES = ((16, 512), (1, 1024))
TALL = (1, 100000, 32)
OPS = ("qr", "lu", "solve", "solve_triangular", "inv", "tri_inv", "cholesky", "cholesky_inv", "cholesky_solve", "slogdet",
       "svd", "svd, values", "eigh", "eigh, values")


def sides_of(op, shape, dtype):
    """The two calls of a row, on the same matrices."""
    import mlx.core as mx
    import mlx_kd

    batch, m, n = shape
    a = mx.random.normal(shape, key=mx.random.key(0))
    if op in ("tri_inv", "cholesky_inv", "cholesky_solve", "solve_triangular"):
        a = mx.tril(a / n) + mx.eye(n)
    if op == "cholesky":
        a = a @ mx.swapaxes(a, -1, -2) / n + mx.eye(n)
    if op.startswith("eigh"):
        a = a + mx.swapaxes(a, -1, -2)
    b = mx.random.normal((batch, n, 1), key=mx.random.key(1))
    a, b = a.astype(getattr(mx, dtype)), b.astype(getattr(mx, dtype))
    mx.eval(a, b)
    la, cpu = mx.linalg, mx.cpu

    def cholesky_solve():
        y = la.solve_triangular(a, b, upper=False, stream=cpu)
        return la.solve_triangular(mx.swapaxes(a, -1, -2), y, upper=True, stream=cpu)

    theirs = {"qr": lambda: la.qr(a, stream=cpu), "lu": lambda: la.lu_factor(a, stream=cpu),
              "solve": lambda: la.solve(a, b, stream=cpu), "inv": lambda: la.inv(a, stream=cpu),
              "solve_triangular": lambda: la.solve_triangular(a, b, stream=cpu),
              "tri_inv": lambda: la.tri_inv(a, stream=cpu), "cholesky_inv": lambda: la.cholesky_inv(a, stream=cpu),
              "cholesky": lambda: la.cholesky(a, stream=cpu), "cholesky_solve": cholesky_solve,
              "slogdet": lambda: la.slogdet(a, stream=cpu), "svd": lambda: la.svd(a, stream=cpu),
              "svd, values": lambda: la.svd(a, compute_uv=False, stream=cpu), "eigh": lambda: la.eigh(a, stream=cpu),
              "eigh, values": lambda: la.eigvalsh(a, stream=cpu)}[op]
    with_sides = op in ("solve", "solve_triangular", "cholesky_solve")
    numbers = {"svd, values": {"form": 2}, "eigh, values": {"values": 1}}.get(op, {})
    ours = functools.partial(getattr(mlx_kd, op.split(",")[0]), **numbers)
    return {"mlx_kd": lambda: mx.eval(*(ours(a, b) if with_sides else ours(a))), "MLX": lambda: mx.eval(theirs())}


def measured(op, shape, dtype, rounds):
    sides = sides_of(op, shape, dtype)
    times = {name: [] for name in sides}
    for call in sides.values():
        call()
    for number in range(rounds):
        for name in random.sample(list(sides), len(sides)):
            start = time.perf_counter()
            sides[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
        if number >= 5 and sum(map(sum, times.values())) > 10_000:
            break
    ratio = spread([b / a for a, b in zip(times["mlx_kd"], times["MLX"])])
    row = {"op": op, "shape": list(shape), "ms": {name: spread(each) for name, each in times.items()}, "speedup": ratio}
    print(f"{op} {shape}: mlx_kd {row['ms']['mlx_kd']['median']:.3f} ms, MLX {row['ms']['MLX']['median']:.3f} ms, "
          f"{ratio['median']:.2f}x ({ratio['lo']:.2f} to {ratio['hi']:.2f})", file=sys.stderr, flush=True)
    return row


def shapes_of(op, singles):
    square = [(batch, n, n) for batch, n in BATCHES + (SINGLES if singles else ())]
    return square + ([TALL] if op == "qr" and singles else [])


def summary(rows):
    counted = [row["speedup"]["median"] for row in rows if tuple(row["shape"][:2]) in BATCHES]
    return {"geometric_mean": math.exp(sum(map(math.log, counted)) / len(counted)), "least": min(counted)}


def kept(out, blas, rows):
    """The rows of a file with those that are new in their places."""
    path = Path(out) if out not in (None, "-") else None
    old = json.loads(path.read_text())["results"].get(blas, {}).get("rows", []) if path and path.exists() else []
    new = {(row["op"], tuple(row["shape"])) for row in rows}
    return [row for row in old if (row["op"], tuple(row["shape"])) not in new] + rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", default="+".join(OPS))
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="svd has no float64")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--openblas", help="libopenblas.so.0, to be preloaded")
    parser.add_argument("--singles", action="store_true", help="large matrices and a tall one too")
    parser.add_argument("--out")
    parser.add_argument("--rows", action="store_true", help=argparse.SUPPRESS)  # of a process of its own
    args = parser.parse_args()
    if args.rows:
        rows = [measured(op, shape, args.dtype, args.rounds)
                for op in args.ops.split("+") for shape in shapes_of(op, args.singles)]
        print(json.dumps(rows))
        return
    import mlx.core as mx
    command = [sys.executable, __file__, "--rows", "--ops", args.ops, "--dtype", args.dtype, "--rounds", str(args.rounds)]
    command += ["--singles"] if args.singles else []
    results = {}
    for name, library in (("the wheel's BLAS", None), ("OpenBLAS", args.openblas)):
        if name == "OpenBLAS" and not library:
            continue
        env = os.environ | ({"LD_PRELOAD": library} if library else {})
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
        rows = kept(args.out, name, json.loads(done.stdout))
        results[name] = {**summary(rows), "rows": rows}
        print(f"{name}: {results[name]['geometric_mean']:.2f}x, least {results[name]['least']:.2f}x", file=sys.stderr)
    write_result(rounded({"date": datetime.date.today().isoformat(), "machine": machine(), "mlx": mx.__version__,
                          "dtype": args.dtype, "results": results}), args.out)


if __name__ == "__main__":
    main()
