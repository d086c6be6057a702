#!/usr/bin/env python3
"""Factorisations of batches of matrices on an NVIDIA GPU: mlx_kd, torch.linalg and, where MLX has the operator, MLX.

    bench/linalg/gpu.py [--ops qr+lu+...] [--rounds 7] [--calls 20] [--seconds 8] [--out bench/results/linalg_gpu_h200.json]

Run it with a Python that has mlx_kd on an MLX with CUDA, and PyTorch. The operators of mlx_kd run at their default
setting, without pins; torch.linalg's are the *_ex forms where there are such. A sample queues --calls calls and waits for
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
from common import gpu_machine, rounded, spread, write_result  # noqa: E402

BATCHES = ((4096, 16), (1024, 32), (64, 64), (256, 128), (16, 512))
OPS = ("qr", "cholesky", "lu", "solve", "inv", "svd", "eigh")
LONG_MS = 20


def matrices(op, batch, n):
    import mlx.core as mx
    a = mx.random.normal((batch, n, n), key=mx.random.key(0))
    if op == "cholesky":
        a = a @ mx.swapaxes(a, -1, -2) / n + mx.eye(n)
    if op == "eigh":
        a = a + mx.swapaxes(a, -1, -2)
    return a, mx.random.normal((batch, n, 1), key=mx.random.key(1))


def calls_of(op, batch, n):
    """{side: a call that queues one operator and returns what to wait for}."""
    import mlx.core as mx
    import mlx_kd
    import numpy as np
    import torch

    a, b = matrices(op, batch, n)
    mx.eval(a, b)
    ta, tb = (torch.from_numpy(np.array(x)).cuda() for x in (a, b))
    of_torch = torch.linalg
    ours = getattr(mlx_kd, op)
    sides = {"mlx_kd": (lambda: ours(a, b)) if op == "solve" else lambda: ours(a),
             "torch": {"qr": lambda: of_torch.qr(ta), "cholesky": lambda: of_torch.cholesky_ex(ta),
                       "lu": lambda: of_torch.lu_factor_ex(ta), "solve": lambda: of_torch.solve_ex(ta, tb),
                       "inv": lambda: of_torch.inv_ex(ta), "svd": lambda: of_torch.svd(ta),
                       "eigh": lambda: of_torch.eigh(ta)}[op]}
    if op == "cholesky":
        sides["MLX"] = lambda: [mx.linalg.cholesky(a, stream=mx.gpu)]
    return sides


def torch_ms(call, count):
    import torch
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / count


def mlx_ms(call, count):
    import mlx.core as mx
    mx.synchronize()
    start = time.perf_counter()
    mx.eval([call() for _ in range(count)])
    mx.synchronize()
    return 1e3 * (time.perf_counter() - start) / count


def measured(op, batch, n, args):
    sides = calls_of(op, batch, n)
    sample = {name: torch_ms if name == "torch" else mlx_ms for name in sides}
    counts, times = {}, {name: [] for name in sides}
    for name, call in sides.items():
        sample[name](call, 1)
        counts[name] = args.calls if sample[name](call, 1) < LONG_MS else 1
    start = time.perf_counter()
    for _ in range(args.rounds):
        for name in random.sample(list(sides), len(sides)):
            times[name].append(sample[name](sides[name], counts[name]))
        if time.perf_counter() - start > args.seconds:
            break
    ratios = {name: spread([b / a for a, b in zip(times["mlx_kd"], times[name])]) for name in sides if name != "mlx_kd"}
    row = {"op": op, "shape": [batch, n, n], "ms": {name: spread(each) for name, each in times.items()}, "ratio": ratios}
    print(f"{op} {batch} x {n}^2: " + ", ".join(f"{name} {found['median']:.3f} ms" for name, found in row["ms"].items()),
          file=sys.stderr, flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", default="+".join(OPS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--out")
    args = parser.parse_args()
    import mlx.core as mx
    import torch
    mx.set_default_device(mx.gpu)
    rows = []
    for op in args.ops.split("+"):
        for batch, n in BATCHES:
            rows.append(measured(op, batch, n, args))
            write_result(rounded({"date": datetime.date.today().isoformat(), "machine": gpu_machine(), "mlx": mx.__version__,
                                  "torch": torch.__version__, "calls": args.calls, "rounds": args.rounds, "rows": rows}),
                         args.out)


if __name__ == "__main__":
    main()
