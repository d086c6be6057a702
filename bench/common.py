"""What the scripts say of their samples and machines. Scripts in folders put this one's on sys.path."""
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

FEWEST = 6  # samples that have a bootstrap interval


def median_interval(values, resamples=2000):
    """Median and its 95 % bootstrap interval."""
    generator = random.Random(0)
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(resamples))
    return statistics.median(values), medians[int(0.025 * resamples)], medians[int(0.975 * resamples)]


def spread(values):
    """The same by name; least and greatest of few samples."""
    if len(values) < FEWEST:
        middle, lo, hi = statistics.median(values), min(values), max(values)
    else:
        middle, lo, hi = median_interval(values)
    return {"median": middle, "lo": lo, "hi": hi, "samples": len(values)}


def rounded(value):
    """All floats of a JSON value with four digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return {key: rounded(one) for key, one in value.items()} if isinstance(value, dict) else value


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.processor())
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "system": f"{platform.system()} {platform.machine()}",
            "load": round(os.getloadavg()[0], 2)}


def gpu_machine():
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    gpu, driver = subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")[0].split(", ")
    return {"gpu": gpu, "driver": driver}


def torch_us(call, count):
    """us per call of PyTorch, by events on its stream."""
    import torch
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return 1e3 * begin.elapsed_time(end) / count


def mlx_us(call, count):
    """us per call that makes arrays of MLX, all of them evaluated together, by the host's clock."""
    import mlx.core as mx
    mx.synchronize()
    start = time.perf_counter()
    mx.eval([call() for _ in range(count)])
    mx.synchronize()
    return 1e6 * (time.perf_counter() - start) / count


def memory_kb(field):
    """Of this process (Linux): VmRSS, what is resident now, or VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field + ":")).split()[1])


def reset_peak():
    """VmHWM starts again from what is resident now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def write_result(result, out):
    """To a file, or to stdout where `out` is None or "-"."""
    text = json.dumps(result, indent=1) + "\n"
    if out in (None, "-"):
        sys.stdout.write(text)
    else:
        Path(out).write_text(text)
