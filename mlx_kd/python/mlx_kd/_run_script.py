"""python -m mlx_kd run-script FILE: a program with Metal kernels or with models of mlx-lm, unchanged, on this machine."""
from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
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
        description="Run a Python program whose Metal kernels run on this machine, and watch them if asked; or, with "
                    "--patch, one whose models of mlx-lm are patched as they are loaded.")
    parser.add_argument("--check", type=_checks, metavar="races,memory", help="what is watched at the first call of each kernel and "
                                                                "size; default: MLX_KD_METAL_CHECK")
    parser.add_argument("--order", choices=("forward", "reverse", "random"), default="forward",
                        help="in which order the threads of a group run; needs --check")
    parser.add_argument("--seed", type=int, default=0, help="of the random order")
    parser.add_argument("--budget", type=float, default=1.0, metavar="SECONDS",
                        help="for watching one kernel at one size: as many threadgroups as fit (1)")
    parser.add_argument("--report", choices=("stderr", "raise"), default="stderr",
                        help="raise: an exception at the next call of a kernel, not only a line")
    parser.add_argument("--patch", action="store_true",
                        help="every model that mlx-lm loads is patched, as by mlx_kd.patch; Metal kernels do not run then")
    parser.add_argument("--pack", metavar="FILE", help="pins for --patch: a pack; default: as for mlx_kd.patch")
    parser.add_argument("--module", action="store_true", help="FILE is the name of a module, as for python -m")
    parser.add_argument("file", metavar="FILE", help="the program")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGS", help="its arguments")
    options = parser.parse_args(argv)
    _refuse(parser, options)
    if options.order != "forward" and options.check is None:
        options.check = os.environ.get("MLX_KD_METAL_CHECK", "none")
    return options


def _checks(text: str) -> str:
    for name in text.split(","):
        if name.strip() not in ("races", "memory", "none"):
            raise argparse.ArgumentTypeError(f"'{name}' is not a check: use races, memory or none")
    return text


def _refuse(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not options.module and not os.path.isfile(options.file):
        parser.error(f"there is no file '{options.file}'")
    if options.pack is not None and not options.patch:
        parser.error("--pack is of use with --patch alone: give both")
    if options.pack is not None and not os.path.isfile(options.pack):
        parser.error(f"there is no pack '{options.pack}'")
    if options.patch and (options.check is not None or options.order != "forward"):
        parser.error("--check and --order watch Metal kernels, which do not run with --patch: leave one out")
    if options.patch and importlib.util.find_spec("mlx_lm") is None:
        parser.error("--patch needs mlx-lm: pip install mlx-lm")


def patch_loaded_models(pack: str | None) -> None:
    """mlx-lm loads all models through load_model, which it looks up at the call."""
    import mlx_kd

    utils: Any = importlib.import_module("mlx_lm.utils")
    loads = utils.load_model

    @functools.wraps(loads)
    def load_model(path: Any, lazy: bool = False, *arguments: Any, **named: Any) -> Any:
        loaded = loads(path, lazy, *arguments, **named)
        if lazy:  # its weights are not there yet: it is sharded next
            print(f"mlx_kd.patch: the model of {path} is loaded lazily and stays as it is", file=sys.stderr)
        else:
            mlx_kd.patch(loaded[0], pack)
        return loaded

    utils.load_model = load_model


def _summary(reports: list[dict[str, Any]]) -> str:
    lines = []
    for one in reports:
        part = f"{one['watched']} of {one['threadgroups']} threadgroups watched"
        lines.append(f"kernel '{one['kernel']}', grid {one['grid']}: {part}, {len(one['findings'])} findings")
    return "\n".join(lines)


def _run(options: argparse.Namespace) -> int:
    """The program as __main__, with its arguments; its exit status."""
    sys.argv = [options.file, *options.arguments]
    try:
        if options.module:
            sys.path[0] = os.getcwd()
            runpy.run_module(options.file, run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = os.path.dirname(os.path.abspath(options.file))
            runpy.run_path(options.file, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def run_script(argv: Sequence[str]) -> int:
    """Runs the script as __main__; 1 if watching found something and the script ended well."""
    options = _arguments(argv)
    if options.patch:
        patch_loaded_models(options.pack)
        return _run(options)
    from mlx_kd.metal import enable_metal_kernels

    kernels = enable_metal_kernels(report_metal_available=True, check=options.check, order=options.order,
                                   seed=options.seed, budget_s=options.budget, report=options.report)
    try:
        status = _run(options)
    finally:
        reports = kernels.reports()
        if reports:
            print(_summary(reports), file=sys.stderr)
    found = any(one["findings"] for one in reports)
    kernels.disable()
    return EXIT_FOUND if found and status == 0 else status
