"""One call: on one of our kernels, or by MLX's form on a CPU; with rules for gradients, and what becomes of failures.

Where MLX's form runs, matrices that it cannot take (it throws, or gives what means nothing) are replaced before it
and are NaN after it, so that failures look the same.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Optional

import mlx.core as mx

from mlx_kd._core import call, op_names
from mlx_kd.linalg import arrays as ar
from mlx_kd.linalg.rules import Arrays, Jvp, apply

MLX = SimpleNamespace(**{name: getattr(mx.linalg, name) for name in dir(mx.linalg) if not name.startswith("_")})
MOST_COLUMNS = 512  # of a matrix in the kernels of svd and eigh, and of cholesky on a CPU
SINGLE = ("matmul_dd",)  # whose kernels are not for float64
NAMES = frozenset(op_names())


class Options:
    """What every function takes in addition to its arrays: stream, return_info, check, fallback."""

    def __init__(self, what: str, stream: ar.Stream = None, return_info: bool = False, check: bool = False,
                 fallback: bool = False) -> None:
        self.what, self.stream = what, ar.place(stream)
        self.return_info, self.check, self.fallback = return_info, check, fallback

    def finish(self, outputs: Sequence[mx.array], info: mx.array) -> Any:
        with mx.stream(self.stream):
            return ar.finish(self.what, outputs, info, self.return_info, self.check)


def kernel(op: str, inputs: Sequence[mx.array], params: Mapping[str, float]) -> list[mx.array]:
    """One of our operators on the default stream; types of 16 bits are computed in float32."""
    return in_float32(lambda *given: call(op, list(given), params), inputs)


def in_float32(compute: Callable[..., Sequence[mx.array]], inputs: Sequence[mx.array]) -> list[mx.array]:
    """What compute(*inputs) gives; 16-bit inputs are widened to float32, and its results rounded to their type."""
    kind = inputs[0].dtype
    if kind not in (mx.float16, mx.bfloat16):
        return list(compute(*inputs))
    return [x.astype(kind) if x.dtype == mx.float32 else x for x in compute(*[x.astype(mx.float32) for x in inputs])]


def is_for_kernels(op: str, where: ar.Where, *inputs: mx.array, most: Optional[int] = None) -> bool:
    types = (*ar.OURS, mx.float64) if ar.is_cpu(where) and op not in SINGLE else ar.OURS
    return (op in NAMES and all(x.dtype in types and x.size > 0 for x in inputs)
            and (most is None or min(inputs[0].shape[-2:]) <= most))


def run(options: Options, op: str, inputs: Sequence[mx.array], params: Mapping[str, float],
        form: Callable[..., Arrays], jvp: Jvp, vjp: Optional[Jvp] = None, most: Optional[int] = None) -> Arrays:
    """The outputs of an operator, info last; `form` is MLX's, with the same outputs."""
    def ours(*given: mx.array) -> Arrays:
        return tuple(kernel(op, given, params))

    if is_for_kernels(op, options.stream, *inputs, most=most):
        try:
            return apply(ours, jvp, *inputs, stream=options.stream, vjp=vjp)
        except RuntimeError as error:
            if ar.is_cpu(options.stream):
                raise
            reason = str(error)
    else:
        reason = "its kernels do not take such arrays"
    where = options.stream
    if not ar.is_cpu(where):
        if not (options.fallback or any(x.dtype in ar.WIDE or x.size == 0 for x in inputs)):
            raise ValueError(f"[linalg] {options.what}: it does not run on this device ({reason}): give "
                             "fallback=True for MLX's form on the CPU, or stream=mx.cpu")
        where = ar.cpu_place(where)
    return apply(form_in_type(form), jvp, *inputs, stream=where, vjp=vjp)


def form_in_type(form: Callable[..., Arrays]) -> Callable[..., Arrays]:
    """MLX's form takes no types of 16 bits."""
    return lambda *inputs: tuple(in_float32(form, inputs))


# ---- MLX's forms, info last

def no_info(a: mx.array) -> mx.array:
    return mx.zeros(a.shape[:-2], mx.int32)


def guarded(form: Callable[[mx.array], Sequence[mx.array]], safe: mx.array, bad: mx.array) -> Arrays:
    """form(safe), NaN where bad."""
    return (*(ar.in_place_of(bad, x) if x.dtype in (*ar.OURS, *ar.WIDE) else x for x in form(safe)), bad)


def qr_form(a: mx.array) -> Arrays:
    bad = ar.not_finite(a)
    return guarded(MLX.qr, ar.in_place_of(bad, a, 0), bad)


def svd_form(form: int) -> Callable[[mx.array], Arrays]:
    """0: all vectors, 1: as many as singular values, 2: values alone."""
    def compute(a: mx.array) -> Arrays:
        bad, k = ar.not_finite(a), min(a.shape[-2:])
        safe = ar.in_place_of(bad, a, 0)
        if form == 2:
            none = mx.zeros((*a.shape[:-2], 0, 0), a.dtype)
            return (none, *guarded(lambda x: [MLX.svd(x, False)], safe, bad)[:1], none, bad)
        u, s, vt, _ = guarded(MLX.svd, safe, bad)
        return (u, s, vt, bad) if form == 0 else (u[..., :k], s, vt[..., :k, :], bad)
    return compute


def eigh_form(upper: bool, values: bool) -> Callable[[mx.array], Arrays]:
    triangle = "U" if upper else "L"

    def compute(a: mx.array) -> Arrays:
        bad = ar.not_finite(mx.triu(a) if upper else mx.tril(a))
        safe = ar.in_place_of(bad, a, 0)
        if values:
            w, _ = guarded(lambda x: [MLX.eigvalsh(x, triangle)], safe, bad)
            return w, mx.zeros((*a.shape[:-2], 0, 0), a.dtype), bad
        return guarded(lambda x: MLX.eigh(x, triangle), safe, bad)
    return compute


def cholesky_form(upper: bool) -> Callable[[mx.array], Arrays]:
    """MLX reports no failure: a factor whose product is not the matrix is none."""
    def compute(a: mx.array) -> Arrays:
        factor = MLX.cholesky(a, upper)
        lower = ar.transpose(factor) if upper else factor
        read = ar.transpose(mx.triu(a)) if upper else mx.tril(a)
        rest = mx.abs(mx.tril(lower @ ar.transpose(lower)) - read).max((-2, -1)) if a.size else no_info(a)
        size = mx.abs(ar.diagonal(a)).max(-1) if a.size else rest
        bad = ~(rest <= 100 * a.shape[-1] * mx.finfo(a.dtype).eps * size)
        bad = (bad | ~(ar.diagonal(factor) > 0).all(-1)).astype(mx.int32) if a.size else no_info(a)
        return ar.in_place_of(bad, factor), bad
    return compute


def lu_form(a: mx.array) -> Arrays:
    bad = ar.not_finite(a)
    safe = ar.in_place_of(bad, a, 0)
    packed, pivots = MLX.lu_factor(safe)
    return ar.in_place_of(bad, packed), pivots, mx.argsort(MLX.lu(safe)[0], -1), bad


def singular(a: mx.array) -> mx.array:
    """1 where MLX's inverse throws."""
    bad = ar.not_finite(a)
    packed, _ = MLX.lu_factor(ar.in_place_of(bad, a, 0))
    return ((ar.diagonal(packed) == 0).any(-1) | (bad != 0)).astype(mx.int32)


def without(bad: mx.array, a: mx.array) -> mx.array:
    """The identity where bad."""
    return mx.where(bad[..., None, None] != 0, ar.eye_like(a), a)


def inv_form(a: mx.array) -> Arrays:
    bad = singular(a)
    return guarded(lambda x: [MLX.inv(x)], without(bad, a), bad)


def solve_form(a: mx.array, b: mx.array) -> Arrays:
    bad = singular(a)
    return guarded(lambda x: [MLX.solve(x, b)], without(bad, a), bad)


def triangular_failures(a: mx.array) -> mx.array:
    return (ar.not_finite(a) | (ar.diagonal(a) == 0).any(-1)).astype(mx.int32)


def solve_triangular_form(upper: bool) -> Callable[[mx.array, mx.array], Arrays]:
    def compute(a: mx.array, b: mx.array) -> Arrays:
        a = mx.triu(a) if upper else mx.tril(a)
        bad = triangular_failures(a)
        return guarded(lambda x: [MLX.solve_triangular(x, b, upper=upper)], without(bad, a), bad)
    return compute


def tri_inv_form(upper: bool) -> Callable[[mx.array], Arrays]:
    def compute(a: mx.array) -> Arrays:
        a = mx.triu(a) if upper else mx.tril(a)
        bad = triangular_failures(a)
        return guarded(lambda x: [MLX.tri_inv(x, upper)], without(bad, a), bad)
    return compute


def slogdet_form(a: mx.array) -> Arrays:
    sign, logarithm = MLX.slogdet(a)
    return sign, logarithm, ((sign == 0) | mx.isnan(sign)).astype(mx.int32)
