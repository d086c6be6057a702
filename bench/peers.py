#!/usr/bin/env python3
"""Large sizes compared with PyTorch (eager and compiled), JAX and a plain copy, sample by sample in random order.

    bench/peers.py [--build build/release] [--rounds 60] [--budget 100] [--out bench/results/peers.json]

Installs torch and jax into .kd/peers on demand. Every side works on arrays that come from memory (sets rotate, and
are together larger than the caches), on all cores, one call per sample. Reported: median us, and for each peer
the median of the paired ratios peer / mlx-kd with its 95 % bootstrap interval; for the copy, mlx-kd as a share of its
rate.
"""
import argparse
import datetime
import json
import os
import random
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

from common import machine, median_interval

ROOT = Path(__file__).resolve().parent.parent
CASES = [("rmsnorm_residual", {"rows": 1024, "D": 4096}), ("swiglu", {"rows": 128, "D": 14336})]
TOUCHED_BETWEEN = 256 << 20
EPS = 1e-6


def ensure_peers():
    """Restarts this script inside an environment that has the peers."""
    home = ROOT / ".kd" / "peers"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    try:
        subprocess.run([python, "-c", "import torch, jax"], check=True, stderr=subprocess.DEVNULL)
    except subprocess.CalledProcessError:
        print("installing torch and jax into .kd/peers", file=sys.stderr, flush=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "torch", "jax", "numpy"], check=True)
    if Path(sys.prefix) != home:
        os.execv(python, [str(python), *sys.argv])


class Ours:
    """The winner of a run, sampled through bench_peer_server."""

    def __init__(self, build, run):
        self.process = subprocess.Popen([str(Path(build) / "bench" / "bench_peer_server"), str(run)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.about = json.loads(self.process.stdout.readline())

    def sample(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def timed(call):
    start = time.perf_counter_ns()
    call()
    return 1e-3 * (time.perf_counter_ns() - start)


class Rotating:
    """A function of arrays, called on one set after another."""

    def __init__(self, function, sets, finish):
        self.function, self.sets, self.finish, self.turn = function, sets, finish, 0

    def __call__(self):
        inputs = self.sets[self.turn % len(self.sets)]
        self.turn += 1
        return timed(lambda: self.finish(self.function(*inputs)))


def torch_peers(op, rows, width, dtype, set_count):
    import torch
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    kind = getattr(torch, dtype)

    def rmsnorm_residual(x, r, w):
        updated = x + r
        return torch.nn.functional.rms_norm(updated, (width,), w, EPS), updated

    def swiglu(gate, up):
        return torch.nn.functional.silu(gate) * up

    def array(*shape):
        return torch.randn(*shape).to(kind)

    make = {"rmsnorm_residual": lambda: (array(rows, width), array(rows, width), array(width)),
            "swiglu": lambda: (array(rows, width), array(rows, width))}[op]
    sets = [make() for _ in range(set_count)]
    eager = {"rmsnorm_residual": rmsnorm_residual, "swiglu": swiglu}[op]
    compiled = torch.compile(eager)
    with torch.inference_mode():
        compiled(*sets[0])
    return {"torch_eager": Rotating(torch.inference_mode()(eager), sets, lambda y: None),
            "torch_compile": Rotating(torch.inference_mode()(compiled), sets, lambda y: None)}


def jax_peers(op, rows, width, dtype, set_count):
    import jax
    import jax.numpy as jnp

    def rmsnorm_residual(x, r, w):
        updated = x + r
        f = updated.astype(jnp.float32)
        scaled = (f * jax.lax.rsqrt(jnp.mean(f * f, -1, keepdims=True) + EPS)).astype(updated.dtype)
        return scaled * w, updated

    def swiglu(gate, up):
        return jax.nn.silu(gate) * up

    key = jax.random.PRNGKey(0)
    array = lambda *shape: jax.random.normal(key, shape).astype(dtype)
    make = {"rmsnorm_residual": lambda: (array(rows, width), array(rows, width), array(width)),
            "swiglu": lambda: (array(rows, width), array(rows, width))}[op]
    sets = [make() for _ in range(set_count)]
    function = jax.jit({"rmsnorm_residual": rmsnorm_residual, "swiglu": swiglu}[op])
    jax.block_until_ready(function(*sets[0]))
    return {"jax_jit": Rotating(function, sets, jax.block_until_ready)}


def discover(kd, op, dims, dtype, budget):
    shape = ",".join(f"{k}={v}" for k, v in dims.items())
    folder = ROOT / "runs" / "peers" / f"{op}-{dtype}-{shape.replace('=', '').replace(',', '-')}"
    subprocess.run([kd, "run", "--op", op, "--dtype", dtype, "--shapes", shape, "--budget", str(budget), "--resume",
                    "--quiet", "--json", "--out", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return folder


def measure(args, op, dims, dtype):
    ours = Ours(args.build, discover(args.kd, op, dims, dtype, args.budget))
    set_count = max(2, TOUCHED_BETWEEN // int(ours.about["bytes"]) + 1)
    sides = {name: (lambda name=name: ours.sample(name)) for name in ("kernel", "copy", "graph")}
    sides |= torch_peers(op, dims["rows"], dims["D"], dtype, set_count)
    sides |= jax_peers(op, dims["rows"], dims["D"], dtype, set_count)
    samples = {name: [] for name in sides}
    order = list(sides)
    for round_number in range(args.rounds + 5):
        random.shuffle(order)
        for name in order:
            us = sides[name]()
            if round_number >= 5:
                samples[name].append(us)
    row = {"op": op, "dtype": dtype, "shape": dims, "bytes": ours.about["bytes"], "candidate_id": ours.about["candidate_id"],
           "median_us": {name: statistics.median(us) for name, us in samples.items()}, "ratio_to_kernel": {}}
    for name, us in samples.items():
        if name != "kernel":
            middle, lo, hi = median_interval([u / k for u, k in zip(us, samples["kernel"])])
            row["ratio_to_kernel"][name] = {"median": middle, "lo": lo, "hi": hi}
    return row


def versions():
    import jax
    import torch
    return {"torch": torch.__version__, "jax": jax.__version__}


def main():
    ensure_peers()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default=str(ROOT / "build" / "release"))
    parser.add_argument("--kd", default=str(ROOT / "kd"))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--out", default=str(ROOT / "bench" / "results" / "peers.json"))
    args = parser.parse_args()
    rows = []
    for op, dims in CASES:
        for dtype in args.dtypes:
            rows.append(measure(args, op, dims, dtype))
            print(json.dumps(rows[-1]), flush=True)
    Path(args.out).write_text(json.dumps({"date": datetime.date.today().isoformat(), "machine": machine(),
                                          "versions": versions(), "rounds": args.rounds, "rows": rows},
                                         indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
