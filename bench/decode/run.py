#!/usr/bin/env python3
"""A language model on this CPU: MLX, MLX with OpenBLAS, MLX patched by mlx_kd, llama.cpp and PyTorch, in one run.

    bench/decode/run.py --site SITE [--rounds 12] [--formats 4 8 16] [--profile] [--out bench/results/decode_cpu.json]

SITE is a folder with the package mlx_kd (pip install --target SITE . in the clone). Needs mlx-lm, xllamacpp and gguf,
and torch: installed into .kd/decode on demand, or in the Pythons that --python and --torch-python name. The model has
random weights (model.py). OpenBLAS is Debian's, or the file that --openblas names.

Each side is a process of its own; per round each side gives one sample, in random order. Reported: tokens per second,
median with its 95 % bootstrap interval (least and greatest where there are fewer than 6 samples), the median of the
paired ratios of mlx_kd to each other side with its interval, and the peak memory of each process. A side that takes
more than a quarter of a second per token gives as many samples as --slow-rounds says; its prompt of 512 is not run. Contexts of MLX
are made by filling the cache with random keys and values, those of llama.cpp by a prompt. --profile adds the time per
operator of a decode step.
"""
import argparse
import datetime
import glob
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import model as models

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import machine, spread  # noqa: E402

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOME = ROOT / ".kd" / "decode"
PROMPTS, CONTEXTS = (32, 512), (512, 4096)
SIDES = {"mlx": "MLX", "mlx_openblas": "MLX, OpenBLAS", "ours": "mlx_kd", "llama": "llama.cpp", "torch": "PyTorch"}
SLOW_S = 0.25
TOKENS = 48  # of a decode sample


def ensure_python():
    python = HOME / "bin" / "python"
    if not python.exists():
        venv.create(HOME, with_pip=True)
    wanted = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    check = subprocess.run([python, "-c", "import mlx_lm, xllamacpp, gguf"], capture_output=True)
    if check.returncode:
        print("installing mlx-lm, xllamacpp and gguf into .kd/decode", file=sys.stderr, flush=True)
        subprocess.run([python, "-m", "pip", "install", "-q", f"mlx[cpu]=={wanted['mlx']}", f"mlx-lm=={wanted['mlx-lm']}",
                        "xllamacpp", "gguf"], check=True)
    return python


def ensure_torch(python):
    if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode:
        print(f"installing torch for {python}", file=sys.stderr, flush=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "torch"], check=True)


def installed_openblas():
    """The library that replaces the BLAS of MLX's wheel; None if it is not installed."""
    found = [path for pattern in ("/usr/lib/*/openblas-pthread/libopenblas.so.0", "/usr/lib/*/libopenblas.so.0",
                                  "/usr/lib64/libopenblasp.so.0") for path in sorted(glob.glob(pattern))]
    return found[0] if found else None


class Side:
    """A worker process."""

    def __init__(self, args, name, title, threads):
        bits, kind = models.FORMATS[title]
        what, env = str(bits), {**os.environ, "PYTHONPATH": str(args.site), **args.environment}
        if name == "llama":
            what = str(gguf_file(args, kind))
        if name == "mlx_openblas":
            env["LD_PRELOAD"] = str(args.openblas)
        self.name, self.slow = name, False
        role = "mlx" if name.startswith("mlx") else name
        self.errors = tempfile.TemporaryFile("w+")
        python = args.torch_python if name == "torch" else args.python
        self.process = subprocess.Popen([python, HERE / "worker.py", role, what, json.dumps(args.shape), str(threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
                                        env=env)
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            sys.exit(f"{self.name}: its worker ended:\n{self.errors.read()[-2000:]}")
        return json.loads(line)

    def ask(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def gguf_file(args, kind):
    file = args.files / f"{kind}-{'-'.join(str(value) for value in args.shape.values())}.gguf"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        code = f"import json, model; model.write_gguf({str(file)!r}, {kind!r}, json.loads({json.dumps(args.shape)!r}))"
        subprocess.run([args.python, "-c", code], check=True, cwd=HERE)
    return file


def sample(side, what, size):
    """Tokens per second."""
    if what == "prompt":
        return size / side.ask("prompt", size)
    count = 1 if side.slow else TOKENS
    return count / side.ask("decode", size, count)


def measure_row(args, sides, what, size):
    values = {side.name: [] for side in sides}
    for number in range(args.rounds):
        for side in random.sample(sides, len(sides)):
            if side.slow and (number >= args.slow_rounds or (what == "prompt" and size > PROMPTS[0])):
                continue
            values[side.name].append(sample(side, what, size))
    found = {name: spread(samples) for name, samples in values.items() if samples}
    ours = values.get("ours")
    ratios = {name: spread([a / b for a, b in zip(ours, samples)])
              for name, samples in values.items() if ours and name != "ours" and samples}
    return {"what": what, "tokens": size, "tokens_per_s": found, "ours_over": ratios}


def measure_format(args, title):
    threads = len(os.sched_getaffinity(0))
    sides = [Side(args, name, title, threads) for name in args.sides]
    for side in sides:  # the first token also compiles
        side.slow = side.name.startswith("mlx") and min(side.ask("decode", CONTEXTS[0], 1) for _ in range(2)) > SLOW_S
    rows = [{"format": title, **measure_row(args, sides, what, size)}
            for what, sizes in (("decode", args.contexts), ("prompt", args.prompts)) for size in sizes]
    result = {"rows": rows, "memory_mib": {side.name: round(side.ask("memory")) for side in sides},
              "about": {side.name: side.ask("about") for side in sides}}
    if args.profile:
        result["profile"] = {side.name: side.ask("profile", args.contexts[0]) for side in sides if side.name in ("mlx", "ours")}
    for side in sides:
        side.close()
    return result


def result_of(args, found):
    versions, replaced = {}, []
    for one in found.values():
        for name, about in one["about"].items():
            versions.update(about["versions"])
            replaced = about["replaced"] if name == "ours" else replaced
    if "mlx_openblas" in args.sides:
        versions["OpenBLAS"] = args.openblas.resolve().name
    return {"what": "tokens per second of a Llama-like model with random weights, one sequence",
            "date": datetime.date.today().isoformat(), "machine": machine(), "versions": versions,
            "model": {**args.shape, "group": models.GROUP}, "rounds": args.rounds, "slow_rounds": args.slow_rounds,
            "sides": {name: SIDES[name] for name in args.sides},
            "rows": [row for one in found.values() for row in one["rows"]],
            "memory_mib": {title: one["memory_mib"] for title, one in found.items()},
            "profile": {title: one["profile"] for title, one in found.items() if "profile" in one},
            "replaced": replaced}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--site", required=True, type=Path)
    parser.add_argument("--python")
    parser.add_argument("--torch-python")
    parser.add_argument("--openblas", type=Path, default=installed_openblas())
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--slow-rounds", type=int, default=2)
    parser.add_argument("--formats", nargs="+", default=["4", "8", "16"], choices=["4", "8", "16"])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--contexts", nargs="+", type=int, default=list(CONTEXTS))
    parser.add_argument("--prompts", nargs="+", type=int, default=list(PROMPTS))
    parser.add_argument("--shape", type=json.loads, default={}, help="what differs from model.py's SHAPE, as JSON")
    parser.add_argument("--files", type=Path, default=HOME / "files", help="where the GGUF files are kept")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "decode_cpu.json")
    args = parser.parse_args()
    if not args.python:
        args.python = ensure_python()
        if "torch" in args.sides and not args.torch_python:
            ensure_torch(args.python)
    args.torch_python = args.torch_python or args.python
    args.shape = {**models.SHAPE, **args.shape}
    args.environment = {}
    if "mlx_openblas" in args.sides and not args.openblas:
        print("OpenBLAS is not installed (Debian, Ubuntu: apt install libopenblas0-pthread): that side is left out",
              file=sys.stderr)
        args.sides.remove("mlx_openblas")
    return args


def main():
    args = arguments()
    found = {}
    for title, (bits, _) in models.FORMATS.items():
        if str(bits) in args.formats:
            found[title] = measure_format(args, title)
            for row in found[title]["rows"]:
                print(json.dumps(row), flush=True)
    args.out.write_text(json.dumps(result_of(args, found), indent=1) + "\n")


if __name__ == "__main__":
    main()
