"""Runs the compute references of SPIRV-Cross on the executor and compares what they give with their shaders in Vulkan.

    python tools/spirv_runs.py FOLDER [--kd PROGRAM] [--only PART] [--jobs 2] [--json FILE]

FOLDER is a checkout of SPIRV-Cross. Its Metal in reference/ comes from shaders in GLSL or SPIR-V, which are compiled
(glslangValidator, spirv-as) and run with the same numbers in all buffers, in two workgroups, by the first device of
Vulkan: Mesa's for CPUs where there is no GPU (packages mesa-vulkan-drivers, glslang-tools, spirv-tools; of Python
vulkan and NumPy). Exits with 1 where the results differ.
"""
import argparse
import collections
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import zlib

import numpy as np

REPO = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO / "tools"))
import spirv_module  # noqa: E402
from spirv_module import Unsupported  # noqa: E402

GROUPS = (2, 1, 1)
NEAR = 2e-3
LIMIT_S = 30
KINDS = {spirv_module.UNIFORM: "uniform", spirv_module.PUSH_CONSTANT: "push", spirv_module.STORAGE_BUFFER: "storage"}
# What a device lacks, or a tool cannot read, is not a difference.
NOT_HERE = "the device or its compiler does not take the shader"


def references(folder):
    """(Metal, shader) of each compute shader."""
    for file in sorted((folder / "reference").rglob("*.comp")):
        parts = file.relative_to(folder / "reference").parts
        source = folder.joinpath(*(parts[1:] if parts[0] == "opt" else parts))
        if "msl" in source.relative_to(folder).parts[0] and "kernel void main0(" in file.read_text():
            yield file, source


def output_of(command):
    try:
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise Unsupported("these numbers end it early, or never") from None


def compiled(source, place):
    made = place / "shader.spv"
    target = "1.3" if ".vk13." in source.name else "1.2" if ".spv14." in source.name or ".spv15." in source.name else "1.1"
    if ".asm." in source.name or "asm" in source.parts:
        version = next((f"spv1.{n}" for n in (6, 5, 4, 3) if f".spv1{n}." in source.name), f"vulkan{target}")
        done = output_of(["spirv-as", "--preserve-numeric-ids", "--target-env", version, source, "-o", made])
    else:
        done = output_of(["glslangValidator", "--amb", "--target-env", f"vulkan{target}", "-V", "-S", "comp", "-o", made, source])
    if done.returncode or not made.exists():
        raise Unsupported(NOT_HERE)
    return made


def parts_of(text):
    """Split at the commas that are in no bracket."""
    found, depth = [""], 0
    for character in text:
        depth += (character in "(<[") - (character in ")>]")
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return [part.strip() for part in found if part.strip()]


def parameters_of(metal):
    """{buffer's index: (type, name)} of main0."""
    begin = metal.index("kernel void main0(") + len("kernel void main0(")
    depth, end = 1, begin
    while depth:
        depth += (metal[end] == "(") - (metal[end] == ")")
        end += 1
    found = {}
    for part in parts_of(metal[begin:end - 1]):
        if re.search(r"\[\[(texture|sampler)\b", part):
            raise Unsupported("textures")
        if "[[buffer(" not in part:
            continue
        match = re.search(r"(?:device|constant)\s+(?:const\s+)?([\w:]+)\s*[&*]\s*(?:const\s+)?(?:__restrict\s+)?(\w+)\s*"
                          r"\[\[buffer\((\d+)\)", part)
        if not match or match[1].startswith("spvDescriptorSet") or match[1] == "void":
            raise Unsupported("argument buffers, or buffers that the translation adds")
        found[int(match[3])] = (match[1], match[2])
    return found


def filled(block, seed):
    """Small numbers, so that they may be indices too."""
    random = np.random.default_rng(seed)
    data = np.zeros(block.size, np.uint8)
    for at, dtype in block.numbers:
        value = random.uniform(0.25, 4) if "f" in dtype else random.integers(0, 4)
        data[at:at + int(dtype[2:])] = np.array([value], dtype).view(np.uint8)
    return data


def matched(blocks, parameters):
    """[(block, index, name)]: by the name of the type, or of the variable."""
    found = []
    for index, (kind, name) in parameters.items():
        same = [block for block in blocks if block.type_name == kind]
        if len(same) != 1:
            same = [block for block in blocks if block.name == name]
        if len(same) != 1:
            raise Unsupported("argument buffers, or buffers that the translation adds")
        found.append((same[0], index, name))
    return found


def write_arrays(place, blocks):
    for number, block in enumerate(blocks):
        block.data = filled(block, zlib.crc32(f"{number} {block.type_name}".encode()))
        for who in ("vulkan", "metal"):
            (place / f"{who}.{number}").write_bytes(block.data.tobytes())


def run_vulkan(place, shader, entry, blocks):
    job = {"shader": str(shader), "entry": entry, "groups": GROUPS,
           "buffers": [{"kind": KINDS[block.kind], "set": block.set, "binding": block.binding,
                        "file": str(place / f"vulkan.{number}")} for number, block in enumerate(blocks)]}
    (place / "job.json").write_text(json.dumps(job))
    done = output_of([sys.executable, REPO / "tools" / "vulkan_compute.py", place / "job.json"])
    if done.returncode:
        if "ModuleNotFoundError" in done.stderr or "vkEnumeratePhysicalDevices" in done.stderr:
            sys.exit("spirv_runs: Vulkan cannot be used here:\n" + done.stderr)
        raise Unsupported(NOT_HERE)
    return done.stdout.strip()


def run_metal(place, file, local, pairs, sizes, options, checks=()):
    grid = [a * b for a, b in zip(local, GROUPS)]
    command = [options.kd, "msl", "run", file, "--fn", "main0", "--cores", "1", "--save", place, "--timeout", LIMIT_S,
               "--grid", ",".join(map(str, grid)), "--threadgroup", ",".join(map(str, local)), *checks]
    for block, number, name in pairs:
        command += ["--out", f"{name}=@{place}/metal.{number}:u8:[{block.size}]"]
    for name, values in sizes.items():
        command += ["--in", f"{name}={','.join(map(str, values))}:u32:[{len(values)}]"]
    done = output_of(command)
    if done.returncode and not checks:
        message = next((line for line in done.stderr.splitlines() if line.startswith("[")), done.stderr[:200])
        if "did not end within" in message or "ended early" in message:
            raise Unsupported("these numbers end it early, or never")
        raise Unsupported("what Metal's front end here does not support" if "not supported" in message else message)
    return done


def difference(place, pairs):
    for block, number, name in pairs:
        right = np.fromfile(place / f"vulkan.{number}", np.uint8) if block.kind == spirv_module.STORAGE_BUFFER else block.data
        found = np.fromfile(place / f"{name}.bin", np.uint8)
        for at, dtype in block.numbers:
            a, b = (float(one[at:at + int(dtype[2:])].copy().view(dtype)[0]) for one in (found, right))
            if a != b and not (np.isnan(a) and np.isnan(b)) and not ("f" in dtype and abs(a - b) <= NEAR * max(1, abs(b))):
                return f"{name}: byte {at} is {a:.9g} and must be {b:.9g}"
    return ""


def compare(file, source, options):
    metal = file.read_text()
    with tempfile.TemporaryDirectory(prefix="kd-spirv-") as folder:
        place = pathlib.Path(folder)
        parameters = parameters_of(metal)
        shader = compiled(source, place)
        module = spirv_module.Module(shader.read_bytes())
        blocks = module.blocks()
        lengths = {index: name for index, (_, name) in parameters.items() if name == "spvBufferSizeConstants"}
        pairs = matched(blocks, {index: one for index, one in parameters.items() if index not in lengths})
        sizes = {name: [next((block.size for block, at, _ in pairs if at == i), 0) for i in range(32)] for name in lengths.values()}
        numbered = [(block, blocks.index(block), name) for block, _, name in pairs]
        write_arrays(place, blocks)
        run_metal(place, file, module.workgroup(), numbered, sizes, options)
        run_vulkan(place, shader, module.entry(), blocks)
        wrong = difference(place, numbered)
        if not wrong:
            changed = any((np.fromfile(place / f"vulkan.{number}", np.uint8) != block.data).any() for block, number, _ in numbered)
            return "the same" if changed else "the same, and nothing is written"
        for check in ("races", "memory"):
            if run_metal(place, file, module.workgroup(), numbered, sizes, options, ("--check", check)).returncode:
                raise Unsupported("these numbers make it race" if check == "races" else "these numbers make it leave its memory")
        return wrong


def outcome_of(file, source, options):
    try:
        return compare(file, source, options)
    except Unsupported as reason:
        return f"not compared: {reason}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--kd", default=str(REPO / "build/release/kd"))
    parser.add_argument("--only", default="", help="references whose paths hold this")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    found = [pair for pair in references(options.folder) if options.only in str(pair[0].relative_to(options.folder))]
    if not found:
        parser.error(f"{options.folder} has no compute references: name the folder of a checkout of SPIRV-Cross")
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(lambda pair: outcome_of(*pair, options), found))
    each = {str(file.relative_to(options.folder)): outcome for (file, _), outcome in zip(found, outcomes)}
    wrong = {file: outcome for file, outcome in each.items() if not outcome.startswith(("the same", "not compared"))}
    for file, outcome in wrong.items():
        print(f"{file}: {outcome}", file=sys.stderr)
    counts = collections.Counter("differs" if file in wrong else outcome for file, outcome in each.items())
    for outcome, count in counts.most_common():
        print(f"{count:4} {outcome}")
    if options.json:
        options.json.write_text(json.dumps({"references": len(found), "outcomes": dict(counts.most_common()), "each": each},
                                           indent=1) + "\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
