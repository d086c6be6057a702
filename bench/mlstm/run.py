#!/usr/bin/env python3
"""mLSTM on this CPU: mlx_kd, MLX's own operators, and PyTorch's native functions where they are installed, in one run.

    bench/mlstm/run.py [--rounds 12] [--out bench/results/mlstm_cpu.json]

Needs mlx_kd (on PYTHONPATH, or installed) in this Python; with torch and mlstm-kernels it compares with those too. Each
side computes the same arrays: float32, batch 1; "both" is h and the gradients of a weighted sum of h in q, k, v and the
gates. Per round each side gives one sample of each row, in random order. Reported: medians in ms and the median of the
paired ratios of the others to mlx_kd, with its 95 % bootstrap interval. MLX's operators compute the parallel form
(mlx_kd.xlstm.mlstm_parallel), PyTorch mlstm_chunkwise__native_autograd with chunks of 64. Memory is what a process that
computes "both" once grows by, at its peak (VmHWM).
"""
import argparse
import datetime
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import mlx.core as mx

from mlx_kd import xlstm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import machine, memory_kb, reset_peak, rounded, spread, write_result  # noqa: E402

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # PyTorch's threads do not spin while another side is timed
try:
    import torch
    from mlstm_kernels.torch.chunkwise.native import mlstm_chunkwise__native_autograd
except ImportError:
    torch = None

ROOT = Path(__file__).resolve().parents[2]
SIZES = [(4, 1024, 64, 128), (4, 256, 64, 128), (8, 512, 128, 128)]  # NH, S, DHQK, DHHV
STEPS = [(4, 64, 128), (8, 256, 512)]  # NH, DHQK, DHHV


def arrays(nh, s, qk, hv):
    mx.random.seed(0)
    made = [mx.random.normal((1, nh, s, width)) for width in (qk, qk, hv)]
    made += [mx.random.normal((1, nh, s)), mx.random.normal((1, nh, s)) + 3, mx.random.normal((1, nh, s, hv))]
    mx.eval(made)
    return made


def to_torch(array):
    return torch.tensor(array.tolist())


def of_mlx(function, five, weight):
    both = mx.value_and_grad(lambda *x: (function(*x) * weight).sum(), argnums=(0, 1, 2, 3, 4))
    return {"forward": lambda: mx.eval(function(*five)), "both": lambda: mx.eval(both(*five))}


def of_torch(five, weight):
    five, weight = [to_torch(x).requires_grad_() for x in five], to_torch(weight)

    def forward():
        with torch.no_grad():
            mlstm_chunkwise__native_autograd(*five, chunk_size=64)

    def both():
        for x in five:
            x.grad = None
        (mlstm_chunkwise__native_autograd(*five, chunk_size=64) * weight).sum().backward()
    return {"forward": forward, "both": both}


def plain_step(q, k, v, i, f, state):
    """A token in MLX's operators."""
    c, n, m = state
    log_f = -mx.logaddexp(0, -f)
    new_m = mx.maximum(log_f + m, i)
    past, share = mx.exp(log_f + m - new_m)[..., None], mx.exp(i - new_m)[..., None] * k
    c, n, q = c * past[..., None] + share[..., None] * v[..., None, :], n * past + share, q * q.shape[-1] ** -0.5
    r = mx.maximum(mx.abs((q * n).sum(-1)), mx.exp(-new_m)) + 1e-6
    return (q[..., None, :] @ c).squeeze(-2) / r[..., None], (c, n, new_m)


def steps(nh, qk, hv):
    token = [x[:, :, 0] for x in arrays(nh, 1, qk, hv)[:5]]

    def run(step):
        held = [(mx.random.normal((1, nh, qk, hv)), mx.zeros((1, nh, qk)), mx.zeros((1, nh)))]
        mx.eval(held)

        def sample():
            h, after = step(*token, held.pop())
            held.append(after)
            mx.eval(h, after)
        return sample
    return {"mlx_kd": run(xlstm.mlstm_step), "MLX": run(plain_step)}


def rows():
    """Of each row: its name and a function a side."""
    for nh, s, qk, hv in SIZES:
        *five, weight = arrays(nh, s, qk, hv)
        sides = {"mlx_kd": of_mlx(xlstm.mlstm_chunkwise, five, weight),
                 "MLX": of_mlx(xlstm.mlstm_parallel, five, weight)}
        if torch is not None:
            sides["PyTorch"] = of_torch(five, weight)
        for what in ("forward", "both"):
            yield f"NH {nh}, S {s}, {qk}/{hv}, {what}", {side: calls[what] for side, calls in sides.items()}
    for nh, qk, hv in STEPS:
        yield f"NH {nh}, {qk}/{hv}, a step", steps(nh, qk, hv)


def seconds(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def measured(all_rows, rounds):
    dice = random.Random(0)
    times = {name: {side: [] for side in sides} for name, sides in all_rows}
    for _ in range(rounds):
        for name, sides in dice.sample(all_rows, len(all_rows)):
            for side in dice.sample(list(sides), len(sides)):
                times[name][side].append(1e3 * seconds(sides[side]))
    made = []
    for name, sides in times.items():
        ratios = {side: spread([other / own for other, own in zip(found, sides["mlx_kd"])])
                  for side, found in sides.items() if side != "mlx_kd"}
        made.append({"what": name, "ms": {side: spread(found) for side, found in sides.items()}, "ratio": ratios})
    return made


def memory_of(side):
    """MB that "both" of the first size takes, in this process."""
    *five, weight = arrays(*SIZES[0])
    small = [x[:, :, :64] for x in five]
    of = {"mlx_kd": lambda five, weight: of_mlx(xlstm.mlstm_chunkwise, five, weight),
          "MLX": lambda five, weight: of_mlx(xlstm.mlstm_parallel, five, weight), "PyTorch": of_torch}[side]
    of(small, weight[:, :, :64])["both"]()  # what is loaded once
    call = of(five, weight)["both"]
    before = memory_kb("VmRSS")
    reset_peak()
    call()
    return round((memory_kb("VmHWM") - before) / 1024, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--memory", choices=["mlx_kd", "MLX", "PyTorch"], help="prints the memory of one side and ends")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "mlstm_cpu.json")
    options = parser.parse_args()
    mx.set_default_device(mx.cpu)
    if torch is not None:
        torch.set_num_threads(machine()["cores"])
    if options.memory:
        print(memory_of(options.memory))
        return
    all_rows = list(rows())
    for _name, sides in all_rows:
        for call in sides.values():
            call()  # compiles
    made = measured(all_rows, options.rounds)
    memory = {side: json.loads(subprocess.run([sys.executable, __file__, "--memory", side], check=True, text=True,
                                              stdout=subprocess.PIPE).stdout)
              for side in ("mlx_kd", "MLX", "PyTorch") if side != "PyTorch" or torch is not None}
    nh, s, qk, hv = SIZES[0]
    result = {"what": "mLSTM in float32, batch 1: h alone, or h and all gradients, in ms",
              "date": str(datetime.date.today()), "machine": machine(),
              "versions": {"MLX": mx.__version__, **({"PyTorch": torch.__version__} if torch is not None else {})},
              "rounds": options.rounds, "rows": rounded(made), "memory_mb": memory,
              "memory_arrays_mb": round(4 * nh * s * (4 * qk + 4 * hv + 5) / 2 ** 20, 1)}
    write_result(result, options.out)


if __name__ == "__main__":
    main()
