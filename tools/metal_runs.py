"""Runs kernels of Metal libraries on the executor and compares what they give with references.

    python tools/metal_runs.py SET=FOLDER ... [--kd PROGRAM] [--only PART] [--check races,memory] [--jobs 2] [--json FILE]
    python tools/metal_runs.py SET=FOLDER ... --write CASES
    python tools/metal_runs.py SET=FOLDER ... --cases CASES --device cuda [--jobs 16] [--json FILE]

SET is mlx, ggml or candle and FOLDER a checkout of it; tools/metal_cases/SET.py says which kernels are run with which
arrays, and what each must give. Needs MLX and NumPy, and for ggml's quantised blocks the package gguf. `--write` keeps
the arrays in a file instead, with which another machine needs NumPy alone: one with a GPU (`--device cuda`). Exits with
1 where a kernel gives something else.
"""
import argparse
import concurrent.futures
import dataclasses
import importlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import typing

import numpy as np

REPO = pathlib.Path(__file__).resolve().parent.parent
SETS = ("mlx", "ggml", "candle")
LIMIT_S = 300
CODES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "i8", "int16": "i16", "int32": "i32",
         "int64": "i64", "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64", "bool": "bool",
         "complex64": "f32"}


class Array(typing.NamedTuple):
    """As kd reads it: complex numbers as pairs, bfloat16 as its bits."""
    code: str
    bits: np.ndarray

    def numbers(self):
        """Elements as float64."""
        if self.code == "bf16":
            return (self.bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        return self.bits.astype(np.float64)

    def shape_text(self):
        return ":[" + ",".join(map(str, self.bits.shape)) + "]" if self.bits.shape else ""


@dataclasses.dataclass
class Case:
    """One kernel with its arrays. Numbers are arrays without axes; arrays of MLX and of NumPy will do."""
    kernel: str
    file: str                # below the folder
    grid: tuple              # threads
    group: tuple
    inputs: dict             # by the buffer's name
    expected: dict           # the outputs
    tolerance: float = 0.0   # of the largest magnitude; 0: the same bits
    constants: dict = dataclasses.field(default_factory=dict)
    group_bytes: tuple = ()
    includes: tuple = (".",)
    free: dict = dataclasses.field(default_factory=dict)  # outputs that are not compared: {name: like}


ARRAYS = ("inputs", "expected", "free")


def plain(array):
    if isinstance(array, Array):
        return array
    code = CODES[str(array.dtype).split(".")[-1].rstrip("_")]
    if code == "bf16":
        import mlx.core as mx
        return Array(code, np.array(array.view(mx.uint16)))
    bits = np.array(array, order="C")
    return Array(code, bits.view(np.float32) if bits.dtype == np.complex64 else bits)


def made(name):
    """The cases of a set, their arrays computed."""
    sys.path.insert(0, str(REPO / "tools"))
    import mlx.core as mx
    mx.set_default_device(mx.cpu)
    cases = importlib.import_module(f"metal_cases.{name}").cases(Case)
    for case in cases:
        for part in ARRAYS:
            setattr(case, part, {key: plain(array) for key, array in getattr(case, part).items()})
    return cases


def write_cases(file, sets):
    arrays, told = {}, {}
    for name, cases in sets.items():
        told[name] = []
        for index, case in enumerate(cases):
            one = {field.name: getattr(case, field.name) for field in dataclasses.fields(Case)}
            for part in ARRAYS:
                for key, array in one[part].items():
                    arrays[f"{name}/{index}/{part}/{key}"] = array.bits
                one[part] = {key: array.code for key, array in one[part].items()}
            told[name].append(one)
    with open(file, "wb") as stream:
        np.savez_compressed(stream, cases=np.array(json.dumps(told)), **arrays)


def read_cases(file):
    with np.load(file) as kept:
        told = json.loads(str(kept["cases"]))
        for name, cases in told.items():
            for index, one in enumerate(cases):
                for part in ARRAYS:
                    one[part] = {key: Array(code, kept[f"{name}/{index}/{part}/{key}"]) for key, code in one[part].items()}
                cases[index] = Case(**one)
    return told


def read_back(path, like):
    bits = np.fromfile(path, dtype=like.bits.dtype).reshape(like.bits.shape or (1,))
    return Array(like.code, bits).numbers()


def command_of(case, folder, options, place):
    command = [options.kd, "msl", "run", str(folder / case.file), "--fn", case.kernel, "--save", str(place),
               "--device", options.device, "--timeout", str(LIMIT_S),
               "--grid", ",".join(map(str, case.grid)), "--threadgroup", ",".join(map(str, case.group))]
    for one in case.includes:
        command += ["-I", str(folder / one)]
    for index, value in case.constants.items():
        command += ["--constant", f"{index}={value}"]
    for size in case.group_bytes:
        command += ["--group-bytes", str(size)]
    for name, array in case.inputs.items():
        array.bits.tofile(place / f"{name}.in")
        command += ["--in", f"{name}=@{place / name}.in:{array.code}{array.shape_text()}"]
    for name, array in {**case.expected, **case.free}.items():
        command += ["--out", f"{name}={array.code}{array.shape_text() or ':[1]'}"]
    return command + (["--check", options.check] if options.check else [])


def difference(case, place):
    """The largest difference as a share of what is allowed, and where."""
    worst, where = 0.0, ""
    for name, array in case.expected.items():
        right, found = array.numbers(), read_back(place / f"{name}.bin", array)
        found = found.reshape(right.shape)
        allowed = case.tolerance * max(1e-30, float(np.nanmax(np.abs(np.where(np.isfinite(right), right, 0)))))
        same = (right == found) | (np.isnan(right) & np.isnan(found))
        apart = np.where(same, 0.0, np.abs(right - found))
        apart = np.where(np.isnan(apart), np.inf, apart)
        share = float(np.max(apart)) / allowed if allowed else (np.inf if np.max(apart) > 0 else 0.0)
        if share > worst:
            at = np.unravel_index(int(np.argmax(apart)), apart.shape) if apart.ndim else ()
            worst, where = share, f"{name}{list(map(int, at))} is {found[at]:.9g} and must be {right[at]:.9g}"
    return worst, where


def run(case, folder, options):
    start = time.monotonic()
    told = case.kernel + "".join(f" {index}={value}" for index, value in case.constants.items())
    result = {"kernel": told, "file": case.file, "problem": "", "findings": []}
    with tempfile.TemporaryDirectory(prefix="kd-metal-run-") as temp:
        place = pathlib.Path(temp)
        try:
            done = subprocess.run(command_of(case, folder, options, place), capture_output=True, text=True,
                                  timeout=2 * LIMIT_S)
        except subprocess.TimeoutExpired:
            result["problem"] = f"did not end within {2 * LIMIT_S} s"
            done = None
        if done and options.check and done.returncode == 1 and "findings" in done.stderr:
            result["findings"] = [line for line in done.stderr.splitlines()[1:] if line]
        elif done and done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("[")] or done.stderr.splitlines()
            result["problem"] = lines[0] if lines else f"exit status {done.returncode}"
        if done and not result["problem"]:
            worst, where = difference(case, place)
            result["share"] = round(worst, 4) if np.isfinite(worst) else "inf"
            if worst > 1:
                result["problem"] = where
    result["seconds"] = round(time.monotonic() - start, 1)
    return result


def run_set(name, cases, folder, options):
    results = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(run, case, folder, options) for case in cases]
        for job in concurrent.futures.as_completed(jobs):
            result = job.result()
            results.append(result)
            if result["problem"] or result["findings"]:
                print(f"{name}: {result['kernel']}: {result['problem'] or 'findings'}", file=sys.stderr, flush=True)
            for finding in result["findings"]:
                print(f"    {finding}", file=sys.stderr, flush=True)
    wrong = [result for result in results if result["problem"]]
    print(f"{name}: {len(results) - len(wrong)} of {len(results)} kernels give what they must", flush=True)
    return {"device": options.device, "kernels": len(results), "right": len(results) - len(wrong),
            "with_findings": sum(bool(result["findings"]) for result in results),
            "seconds": round(sum(result["seconds"] for result in results), 1),
            "wrong": sorted(f"{result['kernel']}: {result['problem']}" for result in wrong)}


def options_given():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="SET=FOLDER")
    parser.add_argument("--kd", default=str(REPO / "build/release/kd"))
    parser.add_argument("--device", default="simt", choices=("simt", "cuda"))
    parser.add_argument("--only", default="", help="kernels whose names hold this")
    parser.add_argument("--check", default="", help="races,memory")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--write", type=pathlib.Path, help="keep the cases in a file, and run none")
    parser.add_argument("--cases", type=pathlib.Path, help="a file of --write")
    options = parser.parse_args()
    folders = {}
    for one in options.sets:
        name, equals, folder = one.partition("=")
        if not equals or name not in SETS:
            parser.error(f"'{one}': write mlx=FOLDER, ggml=FOLDER or candle=FOLDER")
        folders[name] = pathlib.Path(folder)
    return options, folders


def main():
    options, folders = options_given()
    kept = read_cases(options.cases) if options.cases else {name: made(name) for name in folders}
    sets = {name: [case for case in kept[name] if options.only in case.kernel] for name in folders}
    if options.write:
        return write_cases(options.write, sets)
    summary = {name: run_set(name, sets[name], folder, options) for name, folder in folders.items()}
    if options.json:
        options.json.write_text(json.dumps(summary, indent=1) + "\n")
    return any(one["wrong"] for one in summary.values())


if __name__ == "__main__":
    sys.exit(main())
