"""Runs kernels of Metal libraries on the executor and compares what they give with references.

    python tools/metal_runs.py SET=FOLDER ... [--kd PROGRAM] [--only PART] [--check races,memory] [--jobs 2] [--json FILE]

SET is mlx, ggml or candle and FOLDER a checkout of it; tools/metal_cases/SET.py says which kernels are run with which
arrays, and what each must give. Needs MLX and NumPy. Exits with 1 where a kernel gives something else.
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

import mlx.core as mx
import numpy as np

REPO = pathlib.Path(__file__).resolve().parent.parent
LIMIT_S = 300
CODES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "i8", "int16": "i16", "int32": "i32",
         "int64": "i64", "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64", "bool": "bool"}


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


def code_of(array):
    name = str(array.dtype).split(".")[-1].rstrip("_")
    if name == "complex64":
        return "f32"
    return CODES[name]


def plain(array):
    """As NumPy has it: bfloat16 as its bits, complex numbers as pairs."""
    if isinstance(array, mx.array):
        mx.eval(array)
        if array.dtype == mx.bfloat16:
            return np.array(array.view(mx.uint16))
        array = np.array(array)
    array = np.ascontiguousarray(array)
    return array.view(np.float32) if array.dtype == np.complex64 else array


def numbers(array):
    """Elements as float64."""
    if isinstance(array, mx.array) and array.dtype == mx.bfloat16:
        array = array.astype(mx.float32)
    return np.asarray(plain(array), dtype=np.float64)


def shape_text(array):
    shape = plain(array).shape
    return ":[" + ",".join(map(str, shape)) + "]" if shape else ""


def read_back(path, like):
    bits = np.fromfile(path, dtype=plain(like).dtype).reshape(plain(like).shape or (1,))
    if isinstance(like, mx.array) and like.dtype == mx.bfloat16:
        return numbers(mx.array(bits).view(mx.bfloat16))
    return np.asarray(bits, dtype=np.float64)


def command_of(case, folder, program, place, checks):
    command = [program, "msl", "run", str(folder / case.file), "--fn", case.kernel, "--save", str(place),
               "--grid", ",".join(map(str, case.grid)), "--threadgroup", ",".join(map(str, case.group))]
    for one in case.includes:
        command += ["-I", str(folder / one)]
    for index, value in case.constants.items():
        command += ["--constant", f"{index}={value}"]
    for size in case.group_bytes:
        command += ["--group-bytes", str(size)]
    for name, array in case.inputs.items():
        plain(array).tofile(place / f"{name}.in")
        command += ["--in", f"{name}=@{place / name}.in:{code_of(array)}{shape_text(array)}"]
    for name, array in {**case.expected, **case.free}.items():
        command += ["--out", f"{name}={code_of(array)}{shape_text(array) or ':[1]'}"]
    return command + (["--check", checks] if checks else [])


def difference(case, place):
    """The largest difference as a share of what is allowed, and where."""
    worst, where = 0.0, ""
    for name, array in case.expected.items():
        right, found = numbers(array), read_back(place / f"{name}.bin", array)
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


def run(case, folder, program, checks):
    start = time.monotonic()
    result = {"kernel": case.kernel, "file": case.file, "problem": "", "findings": []}
    with tempfile.TemporaryDirectory(prefix="kd-metal-run-") as temp:
        place = pathlib.Path(temp)
        try:
            done = subprocess.run(command_of(case, folder, program, place, checks), capture_output=True, text=True,
                                  timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            result["problem"] = f"did not end within {LIMIT_S} s"
            done = None
        if done and checks and done.returncode == 1 and "findings" in done.stderr:
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


def own_stream():
    """For what a thread of the pool has MLX convert: streams belong to threads."""
    mx.set_default_stream(mx.new_stream(mx.cpu))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="SET=FOLDER")
    parser.add_argument("--kd", default=str(REPO / "build/release/kd"))
    parser.add_argument("--only", default="", help="kernels whose names hold this")
    parser.add_argument("--check", default="", help="races,memory")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    mx.set_default_device(mx.cpu)
    sys.path.insert(0, str(REPO / "tools"))
    summary, failed = {}, 0
    for one in options.sets:
        name, equals, folder = one.partition("=")
        if not equals or not (REPO / "tools" / "metal_cases" / f"{name}.py").exists():
            parser.error(f"'{one}': write mlx=FOLDER, ggml=FOLDER or candle=FOLDER")
        cases = [case for case in importlib.import_module(f"metal_cases.{name}").cases(Case) if options.only in case.kernel]
        mx.eval([array for case in cases for group in (case.inputs, case.expected, case.free)
                 for array in group.values() if isinstance(array, mx.array)])
        with concurrent.futures.ThreadPoolExecutor(options.jobs, initializer=own_stream) as pool:
            results = []
            jobs = [pool.submit(run, case, pathlib.Path(folder), options.kd, options.check) for case in cases]
            for job in concurrent.futures.as_completed(jobs):
                result = job.result()
                results.append(result)
                if result["problem"] or result["findings"]:
                    print(f"{name}: {result['kernel']}: {result['problem'] or 'findings'}", file=sys.stderr, flush=True)
                for finding in result["findings"]:
                    print(f"    {finding}", file=sys.stderr, flush=True)
        wrong = [result for result in results if result["problem"]]
        failed += len(wrong)
        summary[name] = {"kernels": len(results), "right": len(results) - len(wrong),
                         "with_findings": sum(bool(result["findings"]) for result in results),
                         "seconds": round(sum(result["seconds"] for result in results), 1),
                         "wrong": sorted(result["kernel"] for result in wrong)}
        print(f"{name}: {len(results) - len(wrong)} of {len(results)} kernels give what they must", flush=True)
    if options.json:
        options.json.write_text(json.dumps(summary, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
