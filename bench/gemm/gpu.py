#!/usr/bin/env python3
"""Dense products on an NVIDIA GPU: mlx_kd.matmul, MLX and PyTorch, both with cuBLAS, in one process.

    bench/gemm/gpu.py [--rounds 9] [--us 20000] [--only TEXT] [--out bench/results/gemm_gpu_h200.json]

Run it with a Python that has mlx_kd on an MLX with CUDA, and PyTorch. mlx_kd runs its default kernels, or the pins of
the pack that MLX_KD_KERNEL_PACK names. A sample queues as many calls as take about --us microseconds and waits for
the last; it is a call's share of the time. MLX evaluates results of up to 128 MiB together. The sides take turns in
random order. PyTorch's samples are taken by events on its stream, the others by the host's clock. float32 is without
TF32 everywhere (MLX_ENABLE_TF32=0). Results are compared with PyTorch's: the largest difference over the largest
value. The read rate is that of PyTorch's sum of 512 MB. Per row: the median of each side in us, and the median of the
paired ratios to mlx_kd, with intervals.
"""
import argparse
import datetime
import os
import random
import sys
import time
from pathlib import Path

os.environ["MLX_ENABLE_TF32"] = "0"

import mlx.core as mx
import numpy as np
import torch

import mlx_kd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import gpu_machine, rounded, spread, torch_us, write_result  # noqa: E402

# batch, M, N, K, transposed
CASES = ((1, 4096, 4096, 4096, "nt"), (1, 4096, 4096, 4096, "nn"), (1, 4096, 4096, 4096, "tn"),
         (1, 4096, 4096, 4096, "tt"), (1, 8192, 8192, 8192, "nt"), (1, 1024, 1024, 1024, "nn"),
         (1, 4095, 4097, 4099, "nt"), (1, 4095, 4097, 4099, "nn"), (1, 1023, 1025, 1027, "nn"),
         (1, 32, 32, 1000000, "tn"), (1, 32, 32, 100000, "tn"), (1, 64, 64, 500000, "tn"), (1, 128, 16, 250000, "tn"),
         (64, 512, 512, 512, "nn"), (256, 64, 64, 64, "nn"), (100000, 4, 4, 4, "nn"), (1, 16, 4096, 4096, "nt"))
TYPES = {"bfloat16": (mx.bfloat16, torch.bfloat16), "float32": (mx.float32, torch.float32)}
FLOAT32 = {(1, 4096, 4096, 4096, "nt"), (1, 4096, 4096, 4096, "tn"), (1, 1023, 1025, 1027, "nn"), (1, 32, 32, 1000000, "tn")}


def mlx_us(call, count):
    together = max(1, min(count, RESULTS // call().nbytes))
    mx.synchronize()
    start = time.perf_counter()
    for first in range(0, count, together):
        mx.async_eval([call() for _ in range(min(together, count - first))])
    mx.synchronize()
    return 1e6 * (time.perf_counter() - start) / count


SAMPLE = {"mlx_kd": mlx_us, "MLX": mlx_us, "PyTorch": torch_us}
RESULTS = 128 << 20  # bytes of the results that are evaluated together: PyTorch frees each at once


def matrices(batch, m, n, k, transposed, name):
    """Both operands as MLX and PyTorch hold them: the same numbers."""
    of_mlx, of_torch = TYPES[name]
    shapes = [(m, k) if transposed[0] == "n" else (k, m), (k, n) if transposed[1] == "n" else (n, k)]
    random_numbers = np.random.default_rng(m + n + k)
    held = [random_numbers.standard_normal((batch, *shape) if batch > 1 else shape, np.float32) for shape in shapes]
    return [mx.array(x).astype(of_mlx) for x in held], [torch.from_numpy(x).cuda().to(of_torch) for x in held]


def sides_of(batch, m, n, k, transposed, name):
    (a, b), (ta, tb) = matrices(batch, m, n, k, transposed, name)
    mx.eval(a, b)
    left, right = (int(letter == "t") for letter in transposed)
    turned = [x.swapaxes(-1, -2) if flag else x for x, flag in ((a, left), (b, right))]
    of_torch = [x.transpose(-1, -2) if flag else x for x, flag in ((ta, left), (tb, right))]
    return {"mlx_kd": lambda: mlx_kd.matmul(a, b, transpose_a=left, transpose_b=right),
            "MLX": lambda: turned[0] @ turned[1], "PyTorch": lambda: of_torch[0] @ of_torch[1]}


def difference(sides):
    ours, theirs = np.array(sides["mlx_kd"]().astype(mx.float32)), sides["PyTorch"]().float().cpu().numpy()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def measured(args, batch, m, n, k, transposed, name):
    sides = sides_of(batch, m, n, k, transposed, name)
    off = difference(sides)
    counts = {}
    for side, call in sides.items():
        SAMPLE[side](call, 3)
        counts[side] = max(1, min(100, int(args.us / SAMPLE[side](call, 3))))
    times = {side: [] for side in sides}
    for _ in range(args.rounds):
        for side in random.sample(list(sides), len(sides)):
            times[side].append(SAMPLE[side](sides[side], counts[side]))
    found = {side: spread(each) for side, each in times.items()}
    us, bytes_read = found["mlx_kd"]["median"], batch * (m + n) * k * (4 if name == "float32" else 2)
    row = {"batch": batch, "M": m, "N": n, "K": k, "transposed": transposed, "dtype": name, "us": found,
           "ratio": {side: spread([y / x for x, y in zip(times["mlx_kd"], times[side])]) for side in sides if side != "mlx_kd"},
           "tflops": 2e-6 * batch * m * n * k / us, "read_gb_per_s": 1e-3 * bytes_read / us, "difference": off}
    print(batch, m, n, k, transposed, name, {side: round(each["median"], 1) for side, each in found.items()}, f"{off:.1e}",
          file=sys.stderr, flush=True)
    return row


def rate_of_reading():
    x = torch.randn(1 << 27, device="cuda")
    torch_us(x.sum, 5)
    return 4e-3 * x.numel() / min(torch_us(x.sum, 20) for _ in range(5))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--us", type=float, default=20000)
    parser.add_argument("--only", default="", help="cases whose text has it, as '4096-tn'")
    parser.add_argument("--out")
    args = parser.parse_args()
    mx.set_default_device(mx.gpu)
    mlx_kd.configure(default_kernels=["matmul"])
    torch.backends.cuda.matmul.allow_tf32 = False
    result = {"date": datetime.date.today().isoformat(), "machine": gpu_machine(), "mlx": mx.__version__,
              "torch": torch.__version__, "rounds": args.rounds, "read_gb_per_s": rate_of_reading(), "rows": []}
    for name in TYPES:
        for case in CASES:
            if (name == "float32" and case not in FLOAT32) or args.only not in "-".join(map(str, case)):
                continue
            result["rows"].append(measured(args, *case, name))
            write_result(rounded(result), args.out)


if __name__ == "__main__":
    main()
