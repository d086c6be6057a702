#!/usr/bin/env python3
"""Factorisations of batches of matrices on an NVIDIA GPU: mlx_kd, torch.linalg and, where MLX has the operator, MLX.

    bench/linalg/gpu.py [--ops qr+lu+...] [--sizes 16x512+...] [--rounds 7] [--calls 20] [--seconds 1.5]
                        [--out bench/results/linalg_gpu_h200.json]

Run it with a Python that has mlx_kd on an MLX with CUDA, and PyTorch. The operators of mlx_kd run at their default
setting, without pins; torch.linalg's are the *_ex forms where there are such. newton_schulz is torch's 15 products in
one CUDA graph, in bfloat16 both. A sample queues --calls calls and waits for
the last (fewer calls if one takes longer than 20 ms); it is a call's share of the time. The sides take turns in random
order. PyTorch's samples are taken by events on its stream, the others by the host's clock, around the same calls. Per
row: the median of each side in ms and the median of the paired ratios; a row ends after --seconds.
"""
import argparse
import datetime
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import gpu_machine, mlx_us, rounded, spread, torch_us, write_result  # noqa: E402

BATCHES = ((4096, 16), (1024, 32), (64, 64), (256, 128), (16, 512), (1, 1024), (1, 4096))
OPS = ("qr", "cholesky", "lu", "solve", "inv", "svd", "eigh", "slogdet", "solve_triangular", "tri_inv", "cholesky_solve",
       "cholesky_inv")
JACOBI = ("svd", "eigh")  # of matrices of at most 512 columns
TALL, OPTIMISER = (100_000, 32), ((2048, 2048), (4096, 1024))
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
LONG_MS = 20


def matrices(op, batch, n):
    """The matrices of an operator, and right sides."""
    import mlx.core as mx
    import mlx_kd
    a = mx.random.normal((batch, n, n), key=mx.random.key(0))
    if op.startswith("cholesky"):
        a = a @ mx.swapaxes(a, -1, -2) / n + mx.eye(n)
    if op in ("cholesky_solve", "cholesky_inv"):
        a = mlx_kd.cholesky(a)[0]
    if op in ("solve_triangular", "tri_inv"):
        a = mx.tril(a / n) + mx.eye(n)
    if op == "eigh":
        a = a + mx.swapaxes(a, -1, -2)
    return a, mx.random.normal((batch, n, 1), key=mx.random.key(1))


def torch_call(op, a, b):
    import torch
    of = torch.linalg
    calls = {"qr": lambda: of.qr(a), "cholesky": lambda: of.cholesky_ex(a), "lu": lambda: of.lu_factor_ex(a),
             "solve": lambda: of.solve_ex(a, b), "inv": lambda: of.inv_ex(a), "svd": lambda: of.svd(a),
             "eigh": lambda: of.eigh(a), "slogdet": lambda: of.slogdet(a),
             "solve_triangular": lambda: of.solve_triangular(a, b, upper=False),
             "cholesky_solve": lambda: torch.cholesky_solve(b, a), "cholesky_inv": lambda: torch.cholesky_inverse(a)}
    if op == "tri_inv":
        one = torch.eye(a.shape[-1], device="cuda").expand_as(a)
        return lambda: of.solve_triangular(a, one, upper=False)
    return calls[op]


def calls_of(op, batch, n):
    """{side: a call that queues one operator and returns what to wait for}."""
    import mlx.core as mx
    import mlx_kd
    import numpy as np
    import torch

    a, b = matrices(op, batch, n) if isinstance(n, int) else (mx.random.normal(n, key=mx.random.key(0)), None)
    mx.eval([x for x in (a, b) if x is not None])
    ta, tb = (None if x is None else torch.from_numpy(np.array(x)).cuda() for x in (a, b))
    ours = getattr(mlx_kd, op)
    takes_b = op in ("solve", "solve_triangular", "cholesky_solve")
    sides = {"mlx_kd": (lambda: ours(a, b)) if takes_b else lambda: ours(a), "torch": torch_call(op, ta, tb)}
    if op == "cholesky":
        sides["MLX"] = lambda: [mx.linalg.cholesky(a, stream=mx.gpu)]
    return sides


def products_in_a_graph(x):
    """The products of newton_schulz's five steps on x, captured."""
    import torch
    one, two, three = COEFFICIENTS

    def steps(x):
        for _ in range(5):
            square = x @ x.mT
            x = torch.addmm(x, torch.addmm(square, square, square, beta=two, alpha=three), x, beta=one)
        return x
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        steps(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        steps(x)
    return graph.replay


def optimiser_calls(shape):
    import mlx.core as mx
    import mlx_kd.linalg as la
    import torch
    a = mx.random.normal(shape, key=mx.random.key(0)).astype(mx.bfloat16)
    mx.eval(a)
    x = torch.randn(min(shape), max(shape), device="cuda", dtype=torch.bfloat16)
    return {"mlx_kd": lambda: [la.newton_schulz(a)], "torch": products_in_a_graph(x / x.norm())}


def measured(op, shape, sides, args):
    def sample(name, count):
        return 1e-3 * (torch_us if name == "torch" else mlx_us)(sides[name], count)

    counts, times = {}, {name: [] for name in sides}
    for name in sides:
        sample(name, 1)
        counts[name] = args.calls if sample(name, 1) < LONG_MS else 1
    start = time.perf_counter()
    for _ in range(args.rounds):
        for name in random.sample(list(sides), len(sides)):
            times[name].append(sample(name, counts[name]))
        if time.perf_counter() - start > args.seconds:
            break
    ratios = {name: spread([b / a for a, b in zip(times["mlx_kd"], times[name])]) for name in sides if name != "mlx_kd"}
    row = {"op": op, "shape": list(shape), "ms": {name: spread(each) for name, each in times.items()}, "ratio": ratios}
    print(f"{op} {shape}: " + ", ".join(f"{name} {found['median']:.3f} ms" for name, found in row["ms"].items()),
          file=sys.stderr, flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", default="+".join(OPS))
    parser.add_argument("--sizes", default="+".join(f"{batch}x{n}" for batch, n in BATCHES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--out")
    args = parser.parse_args()
    import mlx.core as mx
    import torch
    mx.set_default_device(mx.gpu)
    sizes = [tuple(map(int, size.split("x"))) for size in args.sizes.split("+")]
    wanted = [(op, (batch, n, n), lambda op=op, batch=batch, n=n: calls_of(op, batch, n))
              for op in args.ops.split("+") for batch, n in sizes if op not in JACOBI or n <= 512]
    if "qr" in args.ops.split("+"):
        wanted.append(("qr", TALL, lambda: calls_of("qr", 1, TALL)))
        wanted += [("newton_schulz", shape, lambda shape=shape: optimiser_calls(shape)) for shape in OPTIMISER]
    rows = []
    for op, shape, make in wanted:
        rows.append(measured(op, shape, make(), args))
        write_result(rounded({"date": datetime.date.today().isoformat(), "machine": gpu_machine(), "mlx": mx.__version__,
                              "torch": torch.__version__, "calls": args.calls, "rounds": args.rounds, "rows": rows}),
                     args.out)


if __name__ == "__main__":
    main()
