#!/usr/bin/env python3
"""Vector search on this CPU: mlx_kd, FAISS and MLX's matmul with topk, in one process, in random order.

    bench/vectors/run.py [--count 1000000] [--rounds 15] [--parts flat,ivf,pq] [--files .kd/vectors]
                         [--out bench/results/vectors_cpu.json]

Run it with a Python that has mlx_kd, faiss-cpu and NumPy. The vectors are 128-dimensional, made as FAISS's
SyntheticDataset makes them. FAISS runs with both values of distance_compute_blas_threshold (20, its own, and none of
BLAS); the better median counts. Inverted files have the same centroids, and codes the same codebooks, on both sides.
FAISS's trained indexes are kept in --files, made by --prepare or by the first run; rows of parts that are not run stay in
the file of results. A row of one query takes the next of 256 at each call. Per row: the median time of each side in ms
(of calls one after the other for 20 ms, after a pause), and the median of the paired ratios FAISS / mlx_kd with its 95 %
bootstrap interval (least and greatest below 6 rounds). The part "memory" adds all vectors to inverted lists of each
side in a process of its own: what stays resident, and the most there was meanwhile.
"""
import argparse
import datetime
import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import faiss
import mlx.core as mx
import numpy as np

import mlx_kd
import mlx_kd.vectors as kv

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import machine, memory_kb, reset_peak, spread  # noqa: E402
from data import D, recall, synthetic  # noqa: E402

K, NLIST, M = 10, 1024, 16
BLAS = {"FAISS": 20, "FAISS without BLAS": 1 << 30}
SLOW_MS = 1000
PAUSE = 0.02  # seconds after which the threads of the side before have ceased to wait for work
WARM_MS = 100  # a call that takes less is made once more before those that are timed
LEAST_MS = 20  # of calls that are timed together


def with_blas(threshold, call):
    def run():
        faiss.cvar.distance_compute_blas_threshold = threshold
        return call()
    return run


def measured(what, sides, rounds, **more):
    """Each side once per round, in random order, after a pause and a call that is not timed; a side that takes more
    than a second has 6 rounds at most, and calls of less than 20 ms are timed several together."""
    times, firsts = {name: [] for name in sides}, {}
    for name, call in sides.items():
        call()
        start = time.perf_counter()
        call()
        firsts[name] = 1e3 * (time.perf_counter() - start)
    for number in range(rounds):
        for name in random.sample(list(sides), len(sides)):
            if number >= 6 and statistics.median(times[name]) > SLOW_MS:
                continue
            time.sleep(PAUSE)
            if firsts[name] < WARM_MS:
                sides[name]()
            repeats = max(1, round(LEAST_MS / firsts[name]))
            start = time.perf_counter()
            for _ in range(repeats):
                sides[name]()
            times[name].append(1e3 * (time.perf_counter() - start) / repeats)
    found = {name: spread(each) for name, each in times.items()}
    peer = min((name for name in sides if name.startswith("FAISS")), key=lambda name: found[name]["median"])
    ratio = spread([b / a for a, b in zip(times["mlx_kd"], times[peer])])
    row = {"what": what, **more, "ms": found, "peer": peer, "speedup": ratio}
    print(f"{what}: " + ", ".join(f"{name} {each['median']:.3f} ms" for name, each in found.items()) +
          f"; {ratio['median']:.2f}x ({ratio['lo']:.2f} to {ratio['hi']:.2f}) {more}", flush=True)
    return row


def by_mlx(q, x):
    """As one writes it with MLX."""
    q = mx.array(q)
    keys = mx.sum(x * x, axis=1) - 2 * (q @ x.T)
    near = mx.argpartition(keys, K - 1, axis=1)[:, :K]
    mx.eval(near, mx.take_along_axis(keys, near, axis=1))


def asking(search, q, count):
    """A search of the first queries, or of one, the next at each call."""
    if count > 1:
        return lambda: search(q[:count])
    turns = itertools.cycle(range(len(q)))

    def one():
        turn = next(turns)
        return search(q[turn:turn + 1])
    return one


def flat_rows(args, x, q):
    ours, theirs = kv.IndexFlatL2(D), faiss.IndexFlatL2(D)
    ours.add(x)
    theirs.add(x)
    rows = []
    for count in (1, 64):
        sides = {"mlx_kd": asking(lambda some: ours.search(some, K), q, count)}
        sides |= {name: with_blas(value, asking(lambda some: theirs.search(some, K), q, count))
                  for name, value in BLAS.items()}
        row = measured(f"IndexFlatL2, {count} queries", sides, args.rounds, queries=count)
        start = time.perf_counter()
        by_mlx(q[:count], ours.vectors)
        row["mlx_ms_once"] = 1e3 * (time.perf_counter() - start)
        same = ours.search(q[:count], K)[1] == theirs.search(q[:count], K)[1]
        row["same_ids"] = round(float(same.mean()), 5)
        rows.append(row)
    return rows


def same_quantizer(theirs):
    quantizer = kv.IndexFlatL2(D)
    quantizer.add(theirs.quantizer.reconstruct_n(0, NLIST))
    return quantizer


def list_rows(args, name, ours, theirs, q, wanted):
    rows = []
    for count in (1, 64):
        theirs.nprobe = 16
        sides = {"mlx_kd": asking(lambda some: ours.search(some, K, nprobe=16), q, count)}
        sides |= {side: with_blas(value, asking(lambda some: theirs.search(some, K), q, count))
                  for side, value in BLAS.items()}
        recalls = {"recall": recall(ours.search(q, K, nprobe=16)[1], wanted),
                   "recall_faiss": recall(theirs.search(q, K)[1], wanted)}
        rows.append(measured(f"{name}, nlist {NLIST}, nprobe 16, {count} queries", sides, args.rounds, queries=count,
                             **recalls))
    return rows


def curve(name, ours, theirs, q, wanted, rounds=5):
    """Recall and ms for 64 queries at several nprobe."""
    points = []
    for nprobe in (1, 2, 4, 8, 16, 32, 64):
        theirs.nprobe = nprobe
        row = measured(f"{name}, nprobe {nprobe}", {
            "mlx_kd": lambda: ours.search(q[:64], K, nprobe=nprobe),
            "FAISS": with_blas(20, lambda: theirs.search(q[:64], K))}, rounds)
        points.append({"index": name, "nprobe": nprobe, "recall": recall(ours.search(q, K, nprobe=nprobe)[1], wanted),
                       "recall_faiss": recall(theirs.search(q, K)[1], wanted),
                       "ms": row["ms"]["mlx_kd"]["median"], "ms_faiss": row["ms"]["FAISS"]["median"]})
    return points


def adding(args, theirs, x):
    """Adding all vectors to an empty inverted file, and what it then holds."""
    ours = kv.IndexIVFFlat(same_quantizer(theirs), D, NLIST)
    ours.train(x[:NLIST])

    def add_ours():
        ours.reset()
        ours.add(x)

    def add_theirs():
        theirs.reset()
        theirs.add(x)

    sides = {"mlx_kd": add_ours, "FAISS": with_blas(BLAS["FAISS"], add_theirs)}  # without BLAS it takes minutes
    row = measured(f"IndexIVFFlat, adding {len(x)} vectors", sides, 5)
    row["bytes"] = sum(array.nbytes for segment in ours._segments for array in segment)
    row["bytes_of_vectors"] = x.nbytes
    return ours, row


def memory_of(side, ivf, count):
    """MiB that adding takes, in a process that does nothing else; the vectors themselves are there before."""
    x, index = synthetic(count, 2), faiss.read_index(str(ivf))
    if side == "mlx_kd":
        quantizer = same_quantizer(index)
        index = kv.IndexIVFFlat(quantizer, D, NLIST)
        index.train(x[:NLIST])
    index.add(x[:NLIST])  # what threads and libraries need once
    index.reset()
    reset_peak()
    before = memory_kb("VmRSS")
    index.add(x)
    return {"resident": (memory_kb("VmRSS") - before) / 1024, "most": (memory_kb("VmHWM") - before) / 1024}


def memory(args, ivf):
    """Resident MiB after adding, and the most meanwhile, of each side; the ratio is mlx_kd / FAISS."""
    found = {}
    for side in ("mlx_kd", "FAISS"):
        command = [sys.executable, __file__, "--memory-of", side, "--count", str(args.count), "--files", str(args.files)]
        found[side] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    ratio = {key: found["mlx_kd"][key] / found["FAISS"][key] for key in ("resident", "most")}
    print("memory:", found, ratio, flush=True)
    return {"what": f"IndexIVFFlat, adding {args.count} vectors", "mib": found, "ratio": ratio}


def environment():
    return {"machine": machine(),
            "faiss": faiss.__version__, "mlx": mx.__version__, "mlx_kd": mlx_kd.__version__,
            "numpy": np.__version__}


def prepared(args, x, q, parts):
    """The trained inverted file, the index of codes with all vectors, the true neighbours: files."""
    args.files.mkdir(parents=True, exist_ok=True)
    ivf, pq, truth = (args.files / f"{name}-{len(x)}" for name in ("ivf", "pq", "truth"))
    truth = truth.with_suffix(".npy")
    if not ivf.exists() and parts != ["flat"]:
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(D), D, NLIST)
        index.train(x[:NLIST * 64])
        faiss.write_index(index, str(ivf))
    if not pq.exists() and "pq" in parts:
        trained = faiss.read_index(str(ivf))
        quantizer = faiss.clone_index(trained.quantizer)
        index = faiss.IndexIVFPQ(quantizer, D, NLIST, M, 8)
        index.train(x[:NLIST * 64])
        index.add(x)
        faiss.write_index(index, str(pq))
    if not truth.exists() and parts != ["flat"]:
        index = faiss.IndexFlatL2(D)
        index.add(x)
        np.save(truth, index.search(q, K)[1])
    return ivf, pq, truth


def kept(path, result):
    """The result with the rows and points of an earlier one that were not measured again."""
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        new = {row["what"] for row in result["rows"]}, {point["index"] for point in result["curve"]}
        result["rows"] = [row for row in before["rows"] if row["what"] not in new[0]] + result["rows"]
        result.setdefault("memory", before.get("memory"))
        result |= {field: before[field] for field in ("notes",) if field in before}
        result["curve"] = [point for point in before["curve"] if point["index"] not in new[1]] + result["curve"]
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--parts", default="flat,ivf,pq,memory")
    parser.add_argument("--files", type=Path, default=Path(__file__).resolve().parents[2] / ".kd" / "vectors")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--memory-of", choices=["mlx_kd", "FAISS"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    mx.set_default_device(mx.cpu)
    parts = args.parts.split(",")
    if args.memory_of:
        print(json.dumps(memory_of(args.memory_of, args.files / f"ivf-{args.count}", args.count)))
        return
    x, q = synthetic(args.count, 2), synthetic(256, 3)
    rows, points = [], []
    ivf, pq, truth = prepared(args, x, q, parts)
    if args.prepare:
        return
    if "flat" in parts:
        rows += flat_rows(args, x, q)
    wanted = np.load(truth) if parts != ["flat"] else None
    if "ivf" in parts:
        theirs = faiss.read_index(str(ivf))
        ours, row = adding(args, theirs, x)
        rows += [row] + list_rows(args, "IndexIVFFlat", ours, theirs, q, wanted)
        points += curve("IndexIVFFlat", ours, theirs, q, wanted)
        del ours, theirs
    if "pq" in parts:
        theirs, ours = faiss.read_index(str(pq)), kv.read_faiss(pq)
        rows += list_rows(args, f"IndexIVFPQ, m {M}", ours, theirs, q, wanted)
        points += curve("IndexIVFPQ", ours, theirs, q, wanted)
    result = {"date": str(datetime.date.today()), **environment(),
              "what": f"{args.count} vectors of {D} dimensions, k = {K}, made as FAISS's SyntheticDataset",
              "rows": rows, "curve": points}
    if "memory" in parts:
        result["memory"] = memory(args, ivf)
    if args.out:
        args.out.write_text(json.dumps(kept(args.out, result), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
