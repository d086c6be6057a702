"""Models of mlx-lm and the like, made faster in place: ``mlx_kd.patch(model)``.

>>> import mlx_lm, mlx_kd                                  # doctest: +SKIP
>>> model, tokenizer = mlx_lm.load("PATH")                 # doctest: +SKIP
>>> report = mlx_kd.patch(model)                           # doctest: +SKIP

Modules are found by their structure (structure.py); what runs in their place is in products.py, positions.py and
layers.py; each replacement is proved before it is made (proof.py).
"""
from __future__ import annotations

import os
import sys
import time
import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Optional, Union

import mlx.core as mx

from mlx_kd import _core
from mlx_kd.patching import classes
from mlx_kd.patching.calls.embeddings import Embedding, rows_plan_of
from mlx_kd.patching.calls.layers import Layer
from mlx_kd.patching.operators import Operators, chosen
from mlx_kd.patching.plans import plan_of
from mlx_kd.patching.proof import Proof
from mlx_kd.patching.report import Left, PatchReport, Replaced
from mlx_kd.patching.structure import (
    Product, Unknown, code_of, is_embedding, nn, original_class, output_size, product_of)

__all__ = ["PatchReport", "patch", "patched", "unpatch"]

PathLike = Union[str, "os.PathLike[str]"]
FLOATS = (mx.float32, mx.bfloat16, mx.float16)

_patched: list[weakref.ref[Any]] = []  # models; with the last the settings are again those of before
_settings_before: dict[str, Any] = {}


def patch(model: Any, pack: Optional[PathLike] = None, ops: Optional[Iterable[str]] = None,
          verify: bool = True) -> PatchReport:
    """Replaces what a model calls at each token by operators of mlx_kd, in place.

    Parameters
    ----------
    model : mlx.nn.Module
        As ``mlx_lm.load`` gives it.
    pack : str or os.PathLike, optional
        A pack whose pins are used. Left out: the pins in effect, else on a CPU the packs that came with mlx_kd. Where
        no pin serves a call the operator's default kernel runs.
    ops : iterable of str, optional
        The operators to use; all that this build has if left out.
    verify : bool
        Whether each replacement is proved on random input, and made only where it is right and faster.

    Returns
    -------
    PatchReport
        What runs now and what was left, with the reasons; it is also printed to stderr.

    Raises
    ------
    ValueError
        If the model is patched already, is not a module, or the default device is an Apple GPU; if the pack cannot be
        used or `ops` has an unknown name. Then nothing has changed.
    """
    start = time.perf_counter()
    with classes.lock:
        check(model)
        operators = chosen(ops)
        _patched[:] = [one for one in _patched if one() is not None]
        try:
            report = PatchReport(pins=use_pins(pack, operators))
            mx.eval(model.parameters())
            found = plans(model, operators, float_type(model), verify, report)
        except BaseException:
            restore_settings()
            raise
        for module, plan in found:
            classes.install(module, plan)
        _patched.append(weakref.ref(model))
        report.seconds = time.perf_counter() - start
        report.start()
    print(report, file=sys.stderr)
    return report


def unpatch(model: Any) -> None:
    """Takes a patch back: all modules have the code that they had. A model that is not patched stays as it is."""
    with classes.lock:
        for _, module in list(classes.walk(model)):
            if classes.is_patched(module):
                classes.uninstall(module)
        _patched[:] = [one for one in _patched if one() is not None and one() is not model]
        restore_settings()


class patched:
    """A context manager: the model is patched inside, and as before after it. ``as`` gives the report."""

    def __init__(self, model: Any, pack: Optional[PathLike] = None, ops: Optional[Iterable[str]] = None,
                 verify: bool = True) -> None:
        self.model, self.arguments = model, (pack, ops, verify)

    def __enter__(self) -> PatchReport:
        return patch(self.model, *self.arguments)

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        unpatch(self.model)


def restore_settings() -> None:
    """Those of before the first patch, once no model is patched any more."""
    if not _patched and _settings_before:
        _core.configure(**_settings_before)
        _settings_before.clear()


def check(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(f"[patch] the model is a {type(model).__name__}, not an mlx.nn.Module: pass the first of what "
                         "mlx_lm.load returns")
    if mx.default_device() != mx.cpu and not mx.cuda.is_available():
        raise ValueError(f"[patch] the default device is {mx.default_device()}, and replacements are made for CPUs and "
                         "NVIDIA GPUs: call mx.set_default_device(mx.cpu) before the model is loaded")
    if any(classes.is_patched(module) for _, module in classes.walk(model)):
        raise ValueError("[patch] the model is patched already: call mlx_kd.unpatch(model) first")


def use_pins(pack: Optional[PathLike], operators: Operators) -> str:
    """Puts the pins into effect, and default kernels for what they do not serve; in words."""
    before = _core.settings()
    if not _patched:
        _settings_before.clear()
        _settings_before.update({name: before[name] for name in ("enabled", "path", "default_kernels")})
    known = set(_core.op_names())
    if mx.default_device() != mx.cpu:
        known.discard("gemm")  # its tiles have 128 rows: shorter prompts are faster in MLX
    defaults = sorted(set(before["default_kernels"]) | {name for name in operators.functions if name in known})
    if pack is not None:
        _core.configure(enabled=True, path=pack, default_kernels=defaults)
    elif before["enabled"] or mx.default_device() != mx.cpu:  # the shipped pins of a GPU cannot start early
        _core.configure(default_kernels=defaults)
    else:
        try:
            _core.configure(enabled=True, path="shipped", default_kernels=defaults)
        except ValueError:  # this build has none
            _core.configure(default_kernels=defaults)
    return pins_in_words(_core.stats())


def pins_in_words(stats: dict[str, Any]) -> str:
    if not stats["enabled"]:
        return "default kernels, no pack"
    files = ", ".join(os.path.basename(file) for file in stats["files"])
    words = f"{len(stats['pins'])} pins of {files}, else default kernels"
    if not stats["pins"] and stats["skipped"]:
        first = stats["skipped"][0]
        words += f"; none of its {len(stats['skipped'])} entries matches this machine and MLX: {first['title']} is " \
                 f"{first['reason']}"
    return words


def float_type(model: Any) -> mx.Dtype:
    """The type of activations: that of most of the small parameters, such as norms and scales."""
    counts: dict[mx.Dtype, int] = {}
    for _, module in classes.walk(model):
        for value in module.values():
            if isinstance(value, mx.array) and value.dtype in FLOATS:
                counts[value.dtype] = counts.get(value.dtype, 0) + 1
    return max(FLOATS, key=lambda dtype: counts.get(dtype, 0))


def plans(model: Any, operators: Operators, dtype: mx.Dtype, verify: bool,
          report: PatchReport) -> list[tuple[Any, Any]]:
    """What is to be installed where, parts first; the report gets what is and what is not, parents first."""
    proof, found = Proof(operators, dtype), []
    modules = list(classes.walk(model))
    heads = head_sizes(modules)
    for path, module in reversed(modules):
        cls, held = original_class(module).__name__, []
        for plan in possible(module, operators, dtype, heads):
            if why := why_left(plan, module, proof if verify else None, report):
                report.left.insert(0, Left(path, cls, why))
            else:
                held.append(plan)
                report.replaced.insert(0, Replaced(path, cls, plan.kind, in_words(plan, verify)))
        if held:
            found.append((module, held[0] if len(held) == 1 else Embedding(*held)))
    return found


def possible(module: Any, operators: Operators, dtype: mx.Dtype, heads: set[int]) -> list[Any]:
    """The plans of a module, or why there is none: two for an embedding that is also the head."""
    plan = plan_of(module, operators, dtype)
    if is_embedding(module):
        head = [plan] if output_size(module) in heads else []
        return [rows for rows in [rows_plan_of(module, operators)] if rows] + head
    if plan is None:
        return [Unknown("no replacement for modules of its structure")] if has_arrays(module) else []
    return [plan]


def why_left(plan: Any, module: Any, proof: Optional[Proof], report: PatchReport) -> str:
    """"" if it is to be replaced."""
    if isinstance(plan, Unknown):
        return plan.why
    if missing := plan.missing():
        report.absent = sorted(set(report.absent) | set(missing.split(", ")))
        return f"this build lacks {missing}"
    return proof.why_not(plan, module) if proof else ""


def in_words(plan: Any, verify: bool) -> str:
    """The operators of a plan; a layer's plan serves prompts too where that was proved, or needs no proof."""
    if isinstance(plan, Layer):
        plan.prompts = plan.prompts or (not verify and bool(plan.many_rows()))
        if plan.prompts:
            return f"{plan.runs()}; in prompts {plan.many_rows()}"
    return str(plan.runs())


def head_sizes(modules: list[tuple[str, Any]]) -> set[int]:
    """Rows of embeddings that are also the head: some code calls as_linear, and no linear layer outside of a list
    of layers is as large."""
    if not any("as_linear" in code.names for _, module in modules if (code := code_of(module))):
        return set()
    rows = {output_size(module) for path, module in modules
            if isinstance(product_of(module), Product) and not any(map(str.isdigit, path.split(".")))}
    return {output_size(module) for _, module in modules if is_embedding(module)} - rows


def has_arrays(module: Any) -> bool:
    return any(isinstance(value, mx.array) for value in module.values())
