#!/usr/bin/env python3
"""Checks the lengths of C++ files and functions: check_lengths.py [ROOT].

- A file has at most 400 lines.
- The body of a function of mlx_kd/ has at most 40 lines between its braces. Kernels (*.cpu.h, *.cu.h, *.metal.h and
  the prelude) may have longer ones, and so may tests and benchmarks, where a list of cases is one function.

Exits 1 and names what is longer.
"""
import sys
from pathlib import Path

from single_callers import functions_by_pattern, without_texts

FOLDERS = ("mlx_kd", "tests", "bench")
FILE, BODY = 400, 40


def is_of_the_host(path):
    return path.parts[0] == "mlx_kd" and len(path.suffixes) == 1 and "prelude" not in path.parts


def findings(root, path):
    text = path.read_text(encoding="utf-8")
    shown, count = path.relative_to(root), text.count("\n")
    if count > FILE:
        yield f"{shown}: {count} lines: a file has at most {FILE}, split it by its ideas"
    if not is_of_the_host(shown):
        return
    code = without_texts(text)
    lines = code.split("\n")
    for name, first, last, *_ in functions_by_pattern(code):
        opening = next(i for i in range(first, last + 1) if lines[i - 1].rstrip().endswith("{") or i == last)
        body = last - opening - 1
        if body > BODY:
            yield f"{shown}:{first}: the body of {name} has {body} lines: a function has at most {BODY}, give its steps names"


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    files = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*")) if path.suffix in (".h", ".cpp")]
    found = [line for path in files for line in findings(root, path)]
    for line in found:
        print(line)
    if not found:
        print(f"{len(files)} files and their functions are short enough")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
