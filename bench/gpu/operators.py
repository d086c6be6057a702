#!/usr/bin/env python3
"""Operators at the sizes of decoding on an NVIDIA GPU: a search each, MLX's time beside it, and the winners as a pack.

    bench/gpu/operators.py [--kd ./kd] [--budget 16] [--claims normal] [--minutes 10] [--only NAME,...]
                           [--runs DIR] [--pack FILE] [--out FILE]

The sizes are those of llama-8b, qwen3-4b and the experts of qwen3-30b-a3b (models.py), in bfloat16. A row per size: the
kernel's own time, its time in a graph and MLX's, and the share of a copy's rate that its least bytes take. After
--minutes no further search starts, and the rows say which were left. The pack gets what is faster than MLX in a graph
with its whole 95 % interval above 1.
"""
import argparse
import datetime
import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import gpu_machine, rounded, write_result  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = [(4096, 4096), (4096, 14336), (2560, 4096), (2560, 9728)]
HEADS = [(128256, 4096), (151936, 2560)]
GATES = [(14336, 4096), (9728, 2560)]
HEADS_OF = "B=1,Hq=32,Hk=8"


def products(bits, gated=False, queries=False):
    """(op, sizes) of the products of a step."""
    kind = f",bits={bits},group=64,mode=0" if bits < 16 else ""
    prefix = "q" if bits < 16 else ""
    if gated:
        return prefix + "matvec_gate_up", [f"M=1,N={n},K={k},activation=0{kind},has_norm=1" for n, k in GATES]
    if queries:
        return prefix + "matvec_qkv", [f"M=1,Nq=4096,Nk=1024,Nv=1024,K={k}{kind},has_norm=1,has_bias=0"
                                       for k in (4096, 2560)]
    sizes = [(n, k, 1) for n, k in ROWS] + [(n, k, 0) for n, k in HEADS]
    return prefix + "matvec", [f"M=1,N={n},K={k}{kind},has_norm=0,has_bias=0,has_residual={r}" for n, k, r in sizes]


def searches():
    """{name: (op, sizes)}, in the order in which they are worth their time."""
    found = {"attention": ("attention", [f"S={s},{HEADS_OF},M=1,Dk=128,Dv=128,causal=0,window=0,has_mask=0,has_sinks=0,"
                                         "has_bias=0" for s in (512, 4096)])}
    for bits in (4, 16):
        found[f"gate_up_{bits}"] = products(bits, gated=True)
        found[f"product_{bits}"] = products(bits)
        found[f"qkv_{bits}"] = products(bits, queries=True)
    found["rope"] = ("qk_norm_rope", [f"M=1,{HEADS_OF},D=128,dims=0,traditional=0,ragged=0,has_freqs=0,has_wq={w},"
                                      f"has_wk={w}" for w in (0, 1)])
    experts = "bits=4,group=64,mode=0"
    found["experts_in"] = ("gather_qmatvec_gate_up",
                           [f"M=1,A=8,E=128,N=768,K=2048,activation=0,{experts},per_pair=0,has_bias=0"])
    found["experts_out"] = ("gather_qmatvec", [f"M=1,A=8,E=128,N=2048,K=768,{experts},per_pair=1,has_bias=0"])
    widths = (2560, 4096)
    found["rmsnorm"] = ("rmsnorm", [f"rows=1,D={d}" for d in widths])
    found["rmsnorm_residual"] = ("rmsnorm_residual", [f"rows=1,D={d}" for d in widths])
    found["swiglu"] = ("swiglu", [f"rows=1,D={d}" for d in (9728, 14336)])
    found["product_8"] = products(8)
    return found


def search(args, name, op, sizes):
    folder = Path(args.runs) / name
    command = [args.kd, "run", "--op", op, "--device", "cuda", "--dtype", "bfloat16", "--budget", str(args.budget),
               "--claims", args.claims, "--seed", "0", "--out", str(folder), "--json", "--quiet"]
    for size in sizes:
        command += ["--shapes", size]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        return [{"op": op, "shape": size, "reason": done.stderr.strip().split("\n")[-1][:300]} for size in sizes]
    outcome = json.loads(done.stdout)
    if args.pack and any(size["won"] for size in outcome["sizes"]):
        subprocess.run([args.kd, "install", "--run", str(folder), "--output", args.pack], check=True,
                       stdout=subprocess.DEVNULL)
    return [row_of(op, size) for size in outcome["sizes"]]


def row_of(op, size):
    metrics = size.get("metrics") or {}
    row = {"op": op, "shape": size["shape"]}
    if metrics.get("baseline_us") is None:
        return {**row, "reason": size.get("reason", "nothing was timed")}
    return {**row, "kernel_us": metrics["kernel_us"], "gbps": metrics.get("gbps_est"), "graph_us": metrics["latency_us"],
            "mlx_us": metrics["baseline_us"], "speedup": metrics["speedup_vs_ref"],
            "interval": [metrics["speedup_lo"], metrics["speedup_hi"]], "pinned": size["won"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kd", default=str(ROOT / "kd"))
    parser.add_argument("--budget", type=int, default=16)
    parser.add_argument("--claims", default="normal", help="of kd run: quick, normal or long")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", help="names of searches")
    parser.add_argument("--runs", default=str(ROOT / "runs" / "gpu"))
    parser.add_argument("--pack", help="a pack that gets the winners")
    parser.add_argument("--out", default="-", help="a file, or - for stdout")
    args = parser.parse_args()
    chosen = searches()
    if args.only:
        names = args.only.split(",")
        if unknown := [name for name in names if name not in chosen]:
            parser.error(f"--only has {', '.join(unknown)}: give names of {', '.join(chosen)}")
        chosen = {name: chosen[name] for name in names}
    rows, start = [], time.monotonic()
    for name, (op, sizes) in chosen.items():
        if time.monotonic() - start > 60 * args.minutes:
            rows += [{"op": op, "shape": size, "reason": "not searched: no time was left"} for size in sizes]
            continue
        rows += search(args, name, op, sizes)
        print(f"{time.monotonic() - start:.0f} s: {name}", file=sys.stderr, flush=True)
    result = {"what": "operators at decode sizes in bfloat16, one row: the kernel alone, and in a graph of MLX",
              "machine": gpu_machine(), "date": datetime.datetime.now().isoformat(timespec="seconds"),
              "budget": args.budget, "claims": args.claims, "rows": rounded(rows)}
    write_result(result, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
