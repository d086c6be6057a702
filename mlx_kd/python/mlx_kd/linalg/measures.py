"""Norms, condition numbers, ranks; products that keep matrices near orthogonal ones."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

import mlx.core as mx

from mlx_kd._core import call
from mlx_kd.linalg import arrays as ar
from mlx_kd.linalg.calls import MLX, Options
from mlx_kd.linalg.decompositions import svd_parts
from mlx_kd.linalg.rules import apply
from mlx_kd.linalg.solving import inv

MUON = (3.4445, -4.7750, 2.0315)  # coefficients of Jordan et al. 2024
By = Union[None, int, float, str]


def _spectral(a: mx.array, order: By, axes: tuple[int, int], keepdims: bool, o: Options) -> tuple[mx.array, mx.array]:
    a = mx.transpose(a, [i for i in range(a.ndim) if i not in axes] + list(axes))
    _, s, _, info = svd_parts(a, 2, o)
    value = s.sum(-1) if order == "nuc" else s.max(-1) if order == 2 else s.min(-1)
    if keepdims:
        for axis in sorted(axes):
            value = mx.expand_dims(value, axis)
    return value, info


def norm(a: mx.array, /, ord: By = None, axis: Union[None, int, Sequence[int]] = None, keepdims: bool = False, *,
         stream: ar.Stream = None, **options: bool) -> Any:
    """MLX's norm; the matrix norms 2, -2 and "nuc" by the singular values."""
    o = Options("norm", stream, **options)
    given = list(range(a.ndim)) if axis is None else [axis] if isinstance(axis, int) else list(axis)
    with mx.stream(o.stream):
        if ord not in (2, -2, "nuc") or len(given) != 2 or a.size == 0:
            value = MLX.norm(a, ord, axis, keepdims)
            return o.finish([value], mx.isnan(value).astype(mx.int32)) if options else value
        axes = [i + a.ndim if i < 0 else i for i in given]
        if min(axes) < 0 or max(axes) >= a.ndim or axes[0] == axes[1]:
            raise ValueError(f"[linalg] norm: axis is {axis} and a has {a.ndim} axes: give two different ones of a's")
        a = a if a.dtype in (*ar.OURS, *ar.WIDE) else a.astype(mx.float32)
        value, info = _spectral(a, ord, (axes[0], axes[1]), keepdims, o)
        return o.finish([value], info)


def cond(a: mx.array, p: By = None, *, stream: ar.Stream = None, **options: bool) -> Any:
    """The condition number of each matrix in norm p: of the singular values if p is None, 2 or -2."""
    o = Options("cond", stream, **options)
    by_values = p in (None, 2, -2)
    a = ar.matrices("cond", a, square=not by_values)
    if a.size == 0:
        raise ValueError(f"[linalg] cond: a has shape {a.shape}: give matrices with elements")
    with mx.stream(o.stream):
        if by_values:
            _, s, _, info = svd_parts(a, 2, o)
            low, high = s[..., -1], s[..., 0]
            return o.finish([low / high if p == -2 else high / low], info)
        inverse, info = inv(a, return_info=True, fallback=o.fallback)
        return o.finish([norm(a, p, (-2, -1)) * norm(inverse, p, (-2, -1))], info)


def matrix_rank(a: mx.array, tol: Union[None, float, mx.array] = None, *, stream: ar.Stream = None,
                **options: bool) -> Any:
    """How many singular values are above tol, int32; by itself max(m, n) eps times the largest."""
    o = Options("matrix_rank", stream, **options)
    a = ar.matrices("matrix_rank", a)
    with mx.stream(o.stream):
        _, s, _, info = svd_parts(a, 2, o)
        if s.shape[-1] == 0:
            return o.finish([mx.zeros(a.shape[:-2], mx.int32)], info)
        if tol is None:
            limit = s.max(-1, keepdims=True) * (max(a.shape[-2:]) * mx.finfo(a.dtype).eps)
        else:
            limit = mx.array(tol, s.dtype)[..., None]
        return o.finish([(s > limit).astype(mx.int32).sum(-1)], info)


def cross(a: mx.array, b: mx.array, axis: int = -1, *, stream: ar.Stream = None) -> mx.array:
    """MLX's cross product."""
    found: mx.array = MLX.cross(a, b, axis, stream=stream)
    return found


def _double_float_form(a: mx.array, b: mx.array) -> tuple[mx.array, ...]:
    product = a.astype(mx.float64) @ b.astype(mx.float64)
    hi = product.astype(mx.float32)
    return hi, (product - hi.astype(mx.float64)).astype(mx.float32), mx.zeros(a.shape[:-2], mx.int32)


def _double_float(a: mx.array, b: mx.array) -> tuple[mx.array, ...]:
    return (*call("matmul_dd", [a, b]), mx.zeros(a.shape[:-2], mx.int32))


def matmul_dd(a: mx.array, b: mx.array, *, stream: ar.Stream = None, fallback: bool = False) -> tuple[mx.array, mx.array]:
    """hi and lo, float32, with hi + lo = a @ b in about twice float32's precision; on a CPU."""
    o = Options("matmul_dd", stream, fallback=fallback)
    a, b = ar.matrices("matmul_dd", a), ar.matrices("matmul_dd", b, "b")
    if a.dtype != mx.float32 or b.dtype != mx.float32:
        raise ValueError(f"[linalg] matmul_dd: the types are {a.dtype} and {b.dtype}: give float32")
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"[linalg] matmul_dd: a has shape {a.shape} and b {b.shape}: give as many rows of b as a has columns")
    if not ar.is_cpu(o.stream) and not fallback:
        raise ValueError("[linalg] matmul_dd: it has a kernel on CPUs alone: give stream=mx.cpu or fallback=True")

    def jvp(primals: Sequence[mx.array], tangents: Sequence[mx.array],
            outputs: Sequence[mx.array]) -> Sequence[mx.array]:
        change = tangents[0] @ primals[1] + primals[0] @ tangents[1]
        return change, mx.zeros_like(change)

    where = ar.cpu_place(o.stream)
    with mx.stream(where):
        a, b = ar.together("matmul_dd", a, b)
        hi, lo, _ = apply(_double_float if a.size and b.size else _double_float_form, jvp, a, b, stream=where)
        return hi, lo


def newton_schulz(a: mx.array, steps: int = 5, coefficients: Sequence[float] = MUON,
                  dtype: Optional[mx.Dtype] = None, *, stream: ar.Stream = None) -> mx.array:
    """Brings the singular values of each matrix towards 1: `steps` times X <- x X + (y A + z A^2) X, A = X X^T.

    X begins as a over its Frobenius norm. Products are computed in `dtype`, a's own if it is left out. Muon's
    coefficients bring what was at least 0.002 of that norm into [0.6, 1.3].
    """
    a = ar.matrices("newton_schulz", a)
    if steps < 0 or len(coefficients) != 3:
        raise ValueError(f"[linalg] newton_schulz: steps is {steps} and there are {len(coefficients)} coefficients: "
                         "give at least 0 steps and 3 coefficients")
    one, two, three = coefficients
    with mx.stream(ar.place(stream)):
        wide = a if a.dtype == mx.float64 else a.astype(mx.float32)
        size = mx.sqrt(mx.square(wide).sum((-2, -1), keepdims=True))
        x = (a / mx.where(size == 0, mx.ones_like(size), size).astype(a.dtype)).astype(dtype or a.dtype)
        tall = a.shape[-2] > a.shape[-1]
        x = ar.transpose(x) if tall else x
        for _ in range(steps):
            square = x @ ar.transpose(x)
            if x.dtype == mx.float64:  # addmm's numbers are float32
                x = one * x + (two * square + three * (square @ square)) @ x
            else:
                x = mx.addmm(x, mx.addmm(square, square, square, alpha=three, beta=two), x, beta=one)
        return (ar.transpose(x) if tall else x).astype(a.dtype)
