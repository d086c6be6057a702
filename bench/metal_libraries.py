"""How many Metal files of a checkout `kd msl check` accepts.

    python bench/metal_libraries.py SET=FOLDER[/PATTERN][:INCLUDE[:INCLUDE]] ... [--kd PROGRAM] [--jobs 2] [--json]

Every file under FOLDER whose name is like PATTERN (*.metal) and that holds a kernel, or includes one that does, is
checked on its own. Files that use a feature that is not supported by choice
(tensor operations, textures, argument buffers, ...: docs/metal.md) are counted apart. The refusals are listed by
message, the most frequent first.
"""
import argparse
import collections
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import time

REPO = pathlib.Path(__file__).resolve().parent.parent
LIMIT_S = 300


def check(program, file, includes):
    command = [program, "msl", "check", str(file)] + [part for one in includes for part in ("-I", one)]
    start = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return file, f"not checked within {LIMIT_S} s", LIMIT_S
    first = next((line for line in done.stderr.splitlines() if line.startswith("[")), "the program ended early")
    return file, "" if done.returncode == 0 else first, time.monotonic() - start


def files_of(place):
    folder, pattern = (place.parent, place.name) if "*" in place.name else (place, "*.metal")
    files = sorted(folder.rglob(pattern))
    if not files:
        sys.exit(f"metal_libraries: no {pattern} file under {folder}: name the folder of a checkout")
    return [file for file in files if re.search(r"\bkernel\b|^ *#include +\"", file.read_text(), re.MULTILINE)]


def count(name, place, includes, program, jobs):
    files = files_of(pathlib.Path(place))
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda file: check(program, file, includes), files))
    refused = {str(file): text for file, text, _ in results if text}
    excluded = {file: text for file, text in refused.items() if "not supported" in text}
    return {"set": name, "files": len(files), "excluded": len(excluded), "accepted": len(files) - len(refused),
            "seconds": round(sum(seconds for _, _, seconds in results), 1),
            "wall_s": round(time.monotonic() - start, 1),
            "slowest_s": round(max(seconds for _, _, seconds in results), 1),
            "refused": {file: text for file, text in refused.items() if file not in excluded},
            "not_supported": excluded}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="SET=FOLDER[:INCLUDE]")
    parser.add_argument("--kd", default=str(REPO / "build/release/kd"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = []
    for one in options.sets:
        name, equals, places = one.partition("=")
        if not equals:
            parser.error(f"'{one}': write SET=FOLDER")
        place, *includes = places.split(":")
        found.append(count(name, place, includes, options.kd, options.jobs))
    if options.json:
        return print(json.dumps(found, indent=1))
    print("| set | files | not supported | in scope | accepted | seconds | the slowest | in all |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- |")
    for one in found:
        print(f"| {one['set']} | {one['files']} | {one['excluded']} | {one['files'] - one['excluded']} | "
              f"{one['accepted']} | {one['seconds']} | {one['slowest_s']} | {one['wall_s']} |")
    for one in found:
        messages = collections.Counter(re.sub(r"^\[msl\] \S+ ", "", text) for text in one["refused"].values())
        for text, times in messages.most_common():
            print(f"{one['set']}: {times}x {text[:200]}", file=sys.stderr)


if __name__ == "__main__":
    main()
