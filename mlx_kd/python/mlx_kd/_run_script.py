"""python -m mlx_kd run-script FILE: a program with Metal kernels, unchanged, on this machine."""
from __future__ import annotations

import argparse
import os
import runpy
import sys

TYPE_CHECKING = False  # type checkers read True
if TYPE_CHECKING:
    from typing import Any, Sequence

EXIT_FOUND = 1


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m mlx_kd run-script",
        description="Run a Python program whose Metal kernels run on this machine, and watch them if asked.")
    parser.add_argument("--check", metavar="races,memory", help="what is watched at the first call of each kernel and "
                                                                "size; default: MLX_KD_METAL_CHECK")
    parser.add_argument("--order", choices=("forward", "reverse", "random"), default="forward",
                        help="in which order the threads of a group run; needs --check")
    parser.add_argument("--seed", type=int, default=0, help="of the random order")
    parser.add_argument("--budget", type=float, default=1.0, metavar="SECONDS",
                        help="for watching one kernel at one size: as many threadgroups as fit (1)")
    parser.add_argument("--report", choices=("stderr", "raise"), default="stderr",
                        help="raise: an exception at the next call of a kernel, not only a line")
    parser.add_argument("file", metavar="FILE", help="the program")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGS", help="its arguments")
    options = parser.parse_args(argv)
    if not os.path.isfile(options.file):
        parser.error(f"there is no file '{options.file}'")
    if options.order != "forward" and options.check is None:
        options.check = os.environ.get("MLX_KD_METAL_CHECK", "none")
    return options


def _summary(reports: list[dict[str, Any]]) -> str:
    lines = []
    for one in reports:
        part = f"{one['watched']} of {one['threadgroups']} threadgroups watched"
        lines.append(f"kernel '{one['kernel']}', grid {one['grid']}: {part}, {len(one['findings'])} findings")
    return "\n".join(lines)


def run_script(argv: Sequence[str]) -> int:
    """Runs the script as __main__; 1 if watching found something and the script ended well."""
    from mlx_kd.metal import enable_metal_kernels

    options = _arguments(argv)
    kernels = enable_metal_kernels(report_metal_available=True, check=options.check, order=options.order,
                                   seed=options.seed, budget_s=options.budget, report=options.report)
    sys.argv = [options.file, *options.arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(options.file))
    status = 0
    try:
        runpy.run_path(options.file, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        reports = kernels.reports()
        if reports:
            print(_summary(reports), file=sys.stderr)
    found = any(one["findings"] for one in reports)
    kernels.disable()
    return EXIT_FOUND if found and status == 0 else status
