#!/usr/bin/env python3
"""Vector search on an NVIDIA GPU: mlx_kd, and PyTorch's product with topk.

    bench/vectors/gpu.py [--count 1000000] [--rounds 9] [--calls 64] [--out bench/results/vectors_gpu_h200.json]

Run it with a Python that has mlx_kd on an MLX with CUDA, PyTorch and NumPy. The vectors are those of run.py. Operators
run at their default setting, without pins. A sample queues --calls calls and waits for the last; it is a call's share
of the time. The sides take turns in random order. PyTorch's samples are taken by events on its stream, the others by the
host's clock. PyTorch has the squared norms of the vectors beforehand, and no TF32. Rows of indexes are whole calls of
search, arrays of NumPy in and out, one after the other. The read rate is that of PyTorch's sum of all vectors. Per row:
the median of each side in us and the median of the paired ratios PyTorch / mlx_kd, with intervals.
"""
import argparse
import datetime
import random
import sys
import time
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch

import mlx_kd
import mlx_kd.vectors as kv

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import gpu_machine, mlx_us, rounded, spread, torch_us, write_result  # noqa: E402
from data import D, recall, synthetic  # noqa: E402

NLIST, NPROBE = 1024, 16


def search_us(call, count):
    start = time.perf_counter()
    for _ in range(count):
        call()
    return 1e6 * (time.perf_counter() - start) / count


SAMPLE = {"mlx_kd": mlx_us, "torch": torch_us, "search": search_us}


def measured(args, what, sides, **more):
    times = {name: [] for name in sides}
    for name, call in sides.items():
        for _ in range(2):
            SAMPLE[name](call, 2)
    for _ in range(args.rounds):
        for name in random.sample(list(sides), len(sides)):
            times[name].append(SAMPLE[name](sides[name], args.calls))
    row = {"what": what, **more, "us": {name: spread(each) for name, each in times.items()}}
    if "torch" in sides:
        row["ratio"] = spread([b / a for a, b in zip(times["mlx_kd"], times["torch"])])
    print(what, {name: round(each["median"], 1) for name, each in row["us"].items()}, more, file=sys.stderr, flush=True)
    return row


def nearest64(q, x, k):
    """Ids of the nearest rows by float64."""
    x = torch.from_numpy(x).cuda().double()
    norms = (x * x).sum(1)
    return torch.stack([(norms - 2 * x @ torch.from_numpy(each).cuda().double()).topk(k, largest=False)[1]
                        for each in q]).cpu().numpy()


def flat_rows(args, x, q):
    base, of_torch = mx.array(x), torch.from_numpy(x).cuda()
    norms, rows = (of_torch * of_torch).sum(1), []
    wanted = nearest64(q[:64], x, 10)
    for count, k in ((1, 10), (8, 10), (64, 10), (256, 10), (64, 100), (64, 1024)):
        some, torch_some = mx.array(q[:count]), torch.from_numpy(q[:count]).cuda()
        sides = {"mlx_kd": lambda: mlx_kd.l2_topk(some, base, k=k),
                 "torch": lambda: torch.addmm(norms, torch_some, of_torch.T, alpha=-2).topk(k, largest=False)}
        same = float((np.array(sides["mlx_kd"]()[1])[:64, :10] == wanted[:count]).mean()) if k == 10 else None
        rows.append(measured(args, f"l2_topk, {count} queries, k = {k}", sides, queries=count, k=k, same_ids=same))
        rows[-1]["read_gb_per_s"] = 1e-3 * x.nbytes / rows[-1]["us"]["mlx_kd"]["median"]
    index = kv.IndexFlatL2(D)
    index.add(x)
    rows += [measured(args, f"IndexFlatL2.search, {count} queries", {"search": lambda: index.search(q[:count], 10)},
                      queries=count) for count in (1, 64)]
    return rows, wanted


def centroid_rows(args, x, q):
    centroids = x[:NLIST]
    base, of_torch = mx.array(centroids), torch.from_numpy(centroids).cuda()
    norms, rows = (of_torch * of_torch).sum(1), []
    for values, k in ((q[:64], NPROBE), (x[:16384], 1)):
        some, torch_some = mx.array(values), torch.from_numpy(values).cuda()
        sides = {"mlx_kd": lambda: mlx_kd.l2_topk(some, base, k=k),
                 "torch": lambda: torch.addmm(norms, torch_some, of_torch.T, alpha=-2).topk(k, largest=False)}
        rows.append(measured(args, f"l2_topk of {NLIST} vectors, {len(values)} queries, k = {k}", sides,
                             queries=len(values), k=k))
    return rows


def list_rows(args, x, q, wanted):
    index = kv.IndexIVFFlat(d=D, nlist=NLIST)
    index.train(x[:NLIST * 64])
    start = time.perf_counter()
    index.add(x)
    seconds = time.perf_counter() - start
    rows = [{"what": f"IndexIVFFlat.add, {len(x)} vectors, once", "us": {"search": spread([1e6 * seconds])}}]
    segment, sizes = index._segments[0], index.list_sizes()
    for count in (1, 64, 256):
        some = mx.array(q[:count])
        probes = index._probes(some, NPROBE)[1]
        read = 4 * D * int(sizes[np.unique(np.array(probes))].sum())
        rows.append(measured(args, f"ivf_topk, {count} queries, nprobe {NPROBE}",
                             {"mlx_kd": lambda: mlx_kd.ivf_topk(some, segment.entries, probes, segment.offsets, segment.ids,
                                                                k=10, inner=0)}, queries=count, megabytes_of_lists=read / 1e6))
        rows[-1]["read_gb_per_s"] = 1e-3 * read / rows[-1]["us"]["mlx_kd"]["median"]
        rows.append(measured(args, f"IndexIVFFlat.search, {count} queries, nprobe {NPROBE}",
                             {"search": lambda: index.search(q[:count], 10, nprobe=NPROBE)}, queries=count))
    rows[-1]["recall"] = recall(index.search(q[:64], 10, nprobe=NPROBE)[1], wanted)
    return rows


def code_rows(args, x, q, wanted):
    index = kv.IndexIVFPQ(d=D, nlist=NLIST, m=16)
    index.train(x[:NLIST * 32])
    index.add(x)
    segment, rows = index._segments[0], []
    for count in (1, 64):
        some = mx.array(q[:count])
        probes = index._probes(some, NPROBE)[1]
        rows.append(measured(args, f"ivfpq_topk, {count} queries, nprobe {NPROBE}",
                             {"mlx_kd": lambda: mlx_kd.ivfpq_topk(some, segment.entries, index._books, index.quantizer.vectors,
                                                                  probes, segment.offsets, segment.ids, k=10, inner=0)},
                             queries=count))
        rows.append(measured(args, f"IndexIVFPQ.search, {count} queries, nprobe {NPROBE}",
                             {"search": lambda: index.search(q[:count], 10, nprobe=NPROBE)}, queries=count))
    rows[-1]["recall"] = recall(index.search(q[:64], 10, nprobe=NPROBE)[1], wanted)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=64)
    parser.add_argument("--out")
    args = parser.parse_args()
    mx.set_default_device(mx.gpu)
    torch.backends.cuda.matmul.allow_tf32 = False
    x, q = synthetic(args.count, 2), synthetic(256, 3)
    of_torch = torch.from_numpy(x).cuda()
    read = rate_of_reading(of_torch)
    result = {"date": datetime.date.today().isoformat(), "machine": gpu_machine(), "mlx": mx.__version__,
              "torch": torch.__version__, "calls": args.calls, "rounds": args.rounds,
              "what": f"{args.count} vectors of {D} dimensions, made as FAISS's SyntheticDataset", "read_gb_per_s": read}
    del of_torch
    rows, wanted = flat_rows(args, x, q)
    for more in (lambda: centroid_rows(args, x, q), lambda: list_rows(args, x, q, wanted),
                 lambda: code_rows(args, x, q, wanted)):
        write_result(rounded(result | {"rows": rows}), args.out)
        rows += more()
    write_result(rounded(result | {"rows": rows}), args.out)


def rate_of_reading(x):
    """GB/s of PyTorch's sum of all elements."""
    torch_us(x.sum, 5)
    return 1e-3 * x.numel() * 4 / min(torch_us(x.sum, 20) for _ in range(5))


if __name__ == "__main__":
    main()
