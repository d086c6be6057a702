"""What watching Metal kernels costs, and what a served call of autotune costs.

    python bench/check.py [--kd PROGRAM] [--rounds 7] [--steps 1000] [--step-ms 50] [--block 200] [--pairs 8]
                          [--parts PART,..]

watching     kernels of tests/msl/suite with every access watched for races and memory, against the same kernels as
             fibers, both on one core: `kd msl run --json`, in turns
first call   a program of `--steps` steps, each about `--step-ms` long, with three kernels in it, watched at their first
             calls and not, in turns in one process: how much longer all steps take
autotune     a call that is served by a proved setting, against the function called with that setting, in turns
background   the same steps with a kernel that is tuned in the background while they run, and without, in turns of
             `--block` steps: how much longer they take
background_cpp  the same in C++, by `--pairs` pairs of blocks in random order: bench/autotune_background.cpp, which
             ./kd bench autotune_background builds
tune         `kd tune` of a row softmax on the executor with a budget of 100, from an empty cache

Needs the package: run it with the Python that mlx-kd is installed for. Writes bench/results/check.json.
"""
import argparse
import datetime
import functools
import json
import math
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import mlx.core as mx

import mlx_kd

REPO = pathlib.Path(__file__).resolve().parent.parent
SUITE = REPO / "tests" / "msl" / "suite"
WATCHED = [
    ("elementwise.metal", "swiglu", "32768", "256", ["gate=rand:f32:[32768]", "up=rand:f32:[32768]"], ["y=f32:[32768]"]),
    ("reductions.metal", "row_sum_f32", "16384", "256", ["x=uniform:f32:[64,2048]", "n=2048:u32"], ["y=f32:[64]"]),
    ("reductions.metal", "tree_max", "65536", "256", ["x=rand:f32:[65536]"], ["y=f32:[256]"]),
    ("reductions.metal", "softmax", "2048", "32", ["x=rand:f32:[64,1024]", "n=1024:u32"], ["y=f32:[64,1024]"]),
]
BODIES = {
    "scaled": "uint i = thread_position_in_grid.x; y[i] = x[i] * 2;",
    "row_max": """uint row = threadgroup_position_in_grid.x, t = thread_position_in_threadgroup.x;
        threadgroup float parts[8];
        float most = -INFINITY;
        for (uint i = t; i < 1024; i += 256) most = max(most, x[row * 1024 + i]);
        most = simd_max(most);
        if (thread_index_in_simdgroup == 0) parts[simdgroup_index_in_threadgroup] = most;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (int i = 0; i < 8; ++i) most = max(most, parts[i]);
        for (uint i = t; i < 1024; i += 256) y[row * 1024 + i] = x[row * 1024 + i] - most;""",
    "cubed": "uint i = thread_position_in_grid.x; float v = x[i]; y[i] = v * v * v;",
}


mx.set_default_device(mx.cpu)
ROWS, PRODUCT = mx.random.normal((64, 1024)), mx.random.normal((512, 512))


def interval(values):
    """The median and the range that holds the middle 80 % of the values."""
    ordered = sorted(values)
    lo, hi = (ordered[round(share * (len(ordered) - 1))] for share in (0.1, 0.9))
    return {"median": round(statistics.median(ordered), 4), "lo": round(lo, 4), "hi": round(hi, 4)}


def seconds_of(program, case, *options):
    file, kernel, grid, group, inputs, outputs = case
    command = [program, "msl", "run", str(SUITE / file), "--fn", kernel, "--grid", grid, "--threadgroup", group, "--cores", "1",
               "--json", *options]
    for one in inputs:
        command += ["--in", one]
    for one in outputs:
        command += ["--out", one]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["seconds"]


def watching(program, rounds):
    rows = []
    for case in WATCHED:
        ratios = []
        for _ in range(rounds):
            plain = seconds_of(program, case, "--fibers")
            ratios.append(seconds_of(program, case, "--check", "races,memory") / plain)
        rows.append({"kernel": case[1], "file": case[0], "ratio": interval(ratios)})
    medians = [row["ratio"]["median"] for row in rows]
    return {"rows": rows, "geometric_mean": round(math.exp(statistics.mean(map(math.log, medians))), 3),
            "most": max(medians), "rounds": rounds}


def kernels(check):
    """The three kernels as functions of an array; a threadgroup of row_max takes a row."""
    made = []
    for name, body in BODIES.items():
        kernel = mlx_kd.metal_kernel(name=f"{name}_{check.replace(',', '_')}", input_names=["x"], output_names=["y"],
                                     source=body, check=check)
        each = 4 if name == "row_max" else 1
        made.append(functools.partial(call, kernel, each))
    return made


def call(kernel, each, x):
    return kernel(inputs=[x], grid=(x.size // each, 1, 1), threadgroup=(256, 1, 1), output_shapes=[x.shape],
                  output_dtypes=[x.dtype])[0]


def step(functions, turns):
    """The kernels on 64 rows, and products that take the rest of the step."""
    x = ROWS
    for function in functions:
        x = function(x)
    y = PRODUCT
    for _ in range(turns):
        y = mx.tanh(y @ y / 512)
    mx.eval(x, y)


def first_calls(steps, step_ms):
    sides = {"plain": kernels("none"), "watched": kernels("races,memory")}
    turns = turns_for(sides["plain"], step_ms)
    totals, first = dict.fromkeys(sides, 0.0), {}
    for i in range(steps):
        for name in sorted(sides, reverse=bool(i % 2)):
            start = time.perf_counter()
            step(sides[name], turns)
            totals[name] += time.perf_counter() - start
            if i == 0:
                first[name] = time.perf_counter() - start
    return {"steps": steps, "kernels": len(BODIES), "mean_step_ms": round(1e3 * totals["plain"] / steps, 2),
            "plain_s": round(totals["plain"], 3), "watched_s": round(totals["watched"], 3),
            "first_step_s": {name: round(seconds, 3) for name, seconds in first.items()},
            "extra_s": round(totals["watched"] - totals["plain"], 3),
            "ratio": round(totals["watched"] / totals["plain"], 4)}


def scale(x, *, TG):
    """Makes the kernel at each call, as autotune asks for; MLX and mlx_kd keep what is compiled."""
    kernel = mlx_kd.metal_kernel(name="served", input_names=["x"], output_names=["y"], source=BODIES["scaled"])
    return kernel(inputs=[x], grid=(x.size, 1, 1), threadgroup=(TG, 1, 1), output_shapes=[x.shape],
                  output_dtypes=[x.dtype])[0]


def scale_twice(x):
    return 2 * x


def served_calls(rounds, calls=500):
    x = mx.ones((1, 64))
    with tempfile.TemporaryDirectory() as folder:
        tuned = mlx_kd.autotune(knobs={"TG": [32, 64]}, reference=scale_twice, folder=folder, budget=2)(scale)
        [setting] = tuned.prepare([((1, 64), mx.float32)]).values()
        direct = functools.partial(scale, **setting)
        apart, own = [], []
        for i in range(rounds * 6):
            taken = {}
            for name, function in sorted({"tuned": tuned, "direct": direct}.items(), reverse=bool(i % 2)):
                start = time.perf_counter()
                for _ in range(calls):
                    function(x)
                taken[name] = 1e6 * (time.perf_counter() - start) / calls
            apart.append(taken["tuned"] - taken["direct"])
            own.append(taken["direct"])
    return {"over_the_kernel_us": interval(apart), "kernel_call_us": interval(own), "calls": calls, "rounds": rounds * 6}


def turns_for(functions, step_ms):
    """How many products make a step of about that length."""
    def took(turns):
        start = time.perf_counter()
        step(functions, turns)
        return 1e3 * (time.perf_counter() - start)

    took(1)  # compiles
    least, few = statistics.median(took(1) for _ in range(5)), statistics.median(took(9) for _ in range(5))
    return max(1, round(1 + (step_ms - least) / max((few - least) / 8, 1e-3)))


def in_background(steps, step_ms, block):
    turns = turns_for([scale_twice], step_ms)
    totals = {"plain": 0.0, "tuned": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(max(2, steps // block)):
            name = "tuned" if i % 2 else "plain"
            function = mlx_kd.autotune(knobs={"TG": [32, 64, 128, 256]}, reference=scale_twice, budget=4,
                                       background=name == "tuned", folder=f"{folder}/{i}")(scale)
            start = time.perf_counter()
            for _ in range(block):
                step([function], turns)
            totals[name] += time.perf_counter() - start
            if name == "tuned":
                while function._worker is not None and function._worker.is_alive():
                    time.sleep(0.1)  # it goes on now that no calls are made
    count = max(2, steps // block)
    return {"steps": count * block, "block": block, "mean_step_ms": round(1e3 * totals["plain"] / (block * (count // 2)), 2),
            "plain_s": round(totals["plain"], 3), "tuned_s": round(totals["tuned"], 3),
            "ratio": round(totals["tuned"] / totals["plain"], 4)}


def in_background_cpp(program, pairs, block, step_ms):
    bench = pathlib.Path(program).parent / "bench" / "bench_autotune_background"
    if not bench.exists():
        sys.exit(f"check: {bench} is not built: ./kd bench autotune_background builds it")
    done = subprocess.run([bench, str(pairs), str(block), str(step_ms)], capture_output=True, text=True, check=True,
                          env={**os.environ, "MLX_KD_PROGRAM": program, "MLX_KD_PYTHON": sys.executable})
    return json.loads(done.stdout)


SIZES = "rows=1|64|1024,D=4096"


def tuned_softmax(program):
    """The kernel of docs/tune-your-own.md with 120 settings, a budget of 100."""
    document = (REPO / "docs" / "tune-your-own.md").read_text()
    files = dict(re.findall(r"`(softmax\.\w+)`[^`]*:\n+```\w+\n(.*?)^```", document, re.MULTILINE | re.DOTALL))
    text = files["softmax.metal"].replace("128, 256\n", "128, 256, 512\n").replace("1, 2, 4\n", "1, 2, 4, 8\n")
    text = text.replace("#ifndef FAST\n", "#ifndef UNROLL\n#define UNROLL 1  // knob: 1, 2, 4\n#endif\n#ifndef FAST\n")
    text = text.replace("  for (int i = thread_of_row * VEC", "#pragma unroll(UNROLL)\n  for (int i = thread_of_row * VEC", 1)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {**files, "softmax.metal": text}.items():
            (pathlib.Path(folder) / name).write_text(content)
        start = time.perf_counter()
        subprocess.run([program, "tune", "softmax.metal", "--fn", "softmax_rows", "--ref", "softmax.py", "--shapes",
                        SIZES, "--budget", "100", "--out", "run", "--quiet"], cwd=folder, check=True,
                       env={**os.environ, "MLX_KD_PYTHON": sys.executable, "MLX_KD_CACHE_DIR": f"{folder}/objects"})
        wall = time.perf_counter() - start
        steps = [json.loads(line) for line in (pathlib.Path(folder) / "run" / "run.ndjson").read_text().splitlines()]
    return {"wall_s": round(wall, 1), "kernels": sum("step" in one for one in steps), "sizes": SIZES,
            "seconds": {name: round(seconds, 1) for name, seconds in steps[-1].get("seconds", {}).items()}}


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kd", default=str(REPO / "build/release/kd"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--step-ms", type=float, default=50)
    parser.add_argument("--block", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--parts", default="watching,first_call,autotune,background,background_cpp,tune")
    parser.add_argument("--out", type=pathlib.Path, default=REPO / "bench/results/check.json")
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    options.kd = os.path.abspath(options.kd)
    parts = options.parts.split(",")
    here = {"date": datetime.date.today().isoformat(),
            "machine": {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)),
                        "load": round(os.getloadavg()[0], 2), "mlx": mx.__version__}}
    if parts != ["background_cpp"]:
        found |= {"what": "Watching Metal kernels for races and memory, and served calls of mlx_kd.autotune", **here}
    if "watching" in parts:
        found["watching"] = watching(options.kd, options.rounds)
    if "first_call" in parts:
        found["first_call"] = first_calls(options.steps, options.step_ms)
    if "autotune" in parts:
        found["autotune"] = served_calls(options.rounds)
    if "tune" in parts:
        found["tune"] = tuned_softmax(options.kd)
    if "background" in parts:
        found["background"] = in_background(options.steps, options.step_ms, options.block)
    if "background_cpp" in parts:
        found["background_cpp"] = here | in_background_cpp(options.kd, options.pairs, options.block, options.step_ms)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
