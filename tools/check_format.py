#!/usr/bin/env python3
"""Checks that C++ is formatted as .clang-format says: check_format.py [--fix] [ROOT].

With --fix it formats the files. Versions of clang-format disagree, so only 14 is used (Debian 12's); exits 77 if
it is not installed.
"""
import shutil
import subprocess
import sys
from pathlib import Path

FOLDERS = ("mlx_kd", "tests", "bench")


def find_clang_format():
    for name in ("clang-format-14", "clang-format"):
        if shutil.which(name):
            version = subprocess.run([name, "--version"], capture_output=True, text=True).stdout
            if "version 14." in version:
                return name
    return None


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--fix"]
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    program = find_clang_format()
    if not program:
        print("skipped: clang-format 14 is not installed (apt-get install clang-format-14)")
        return 77
    files = [str(path) for folder in FOLDERS for suffix in ("*.h", "*.cpp")
             for path in sorted((root / folder).rglob(suffix))]
    if not files:
        print(f"{root}: no C++ here")
        return 1
    how = ["-i"] if "--fix" in sys.argv[1:] else ["--dry-run", "-Werror"]
    if subprocess.run([program, *how, *files]).returncode:
        return 1
    print(f"{len(files)} files are formatted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
