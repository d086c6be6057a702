"""Systems, inverses, determinants and least squares."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import mlx.core as mx

from mlx_kd.linalg import arrays as ar
from mlx_kd.linalg import calls
from mlx_kd.linalg.calls import Options, run
from mlx_kd.linalg.decompositions import inverse_or_zero, packed_lu, svd_parts
from mlx_kd.linalg.rules import apply

Given = Sequence[mx.array]


def _sides(what: str, a: Any, b: Any) -> tuple[mx.array, mx.array, bool]:
    """Both with one type and the same leading axes, b as columns; whether b was a vector."""
    a = ar.matrices(what, a, square=True)
    b = b if isinstance(b, mx.array) else mx.array(b)
    b = ar.typed(what, b, "b")
    if b.ndim < 1:
        raise ValueError(f"[linalg] {what}: b has no axes: give [n] or [..., n, k]")
    vector = b.ndim == 1
    b = b[:, None] if vector else b
    if b.shape[-2] != a.shape[-1]:
        raise ValueError(f"[linalg] {what}: a has shape {a.shape} and b {b.shape[:-1] if vector else b.shape}: "
                         "give as many rows of b as a has")
    a, b = ar.together(what, a, b)
    return a, b, vector


def _back(x: mx.array, vector: bool) -> mx.array:
    return x.squeeze(-1) if vector else x


# ---- systems

def _solve_jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
    return [solve(primals[0], tangents[1] - tangents[0] @ outputs[0])]


def _solve_vjp(primals: Given, cotangents: Given, outputs: Given) -> Given:
    of_b = solve(ar.transpose(primals[0]), cotangents[0])
    return -of_b @ ar.transpose(outputs[0]), of_b


def solve(a: mx.array, b: mx.array, *, stream: ar.Stream = None, **options: bool) -> Any:
    """x with a x = b for each square matrix; b is [n], or [..., n, k]."""
    o = Options("solve", stream, **options)
    with mx.stream(o.stream):
        a, b, vector = _sides("solve", a, b)
        x, info = run(o, "solve", [a, b], {}, calls.solve_form, _solve_jvp, _solve_vjp)
        return o.finish([_back(x, vector)], info)


def _part(a: mx.array, upper: bool) -> mx.array:
    return mx.triu(a) if upper else mx.tril(a)


def _triangular_rules(upper: bool) -> Any:
    def jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
        rest = tangents[1] - _part(tangents[0], upper) @ outputs[0]
        return [solve_triangular(primals[0], rest, upper=upper)]

    def vjp(primals: Given, cotangents: Given, outputs: Given) -> Given:
        of_b = solve_triangular(ar.transpose(primals[0]), cotangents[0], upper=not upper)
        return _part(-of_b @ ar.transpose(outputs[0]), upper), of_b
    return jvp, vjp


def solve_triangular(a: mx.array, b: mx.array, *, upper: bool = False, stream: ar.Stream = None,
                     **options: bool) -> Any:
    """x with a x = b, where only the lower triangle of a is read, or the upper one."""
    o = Options("solve_triangular", stream, **options)
    with mx.stream(o.stream):
        a, b, vector = _sides("solve_triangular", a, b)
        jvp, vjp = _triangular_rules(upper)
        x, info = run(o, "solve_triangular", [a, b], {"upper": float(upper)}, calls.solve_triangular_form(upper),
                      jvp, vjp)
        return o.finish([_back(x, vector)], info)


def _cholesky_solve_form(upper: bool) -> Any:
    def compute(factor: mx.array, b: mx.array) -> tuple[mx.array, ...]:
        lower = ar.transpose(factor) if upper else factor
        y, bad = calls.solve_triangular_form(False)(lower, b)
        x, _ = calls.solve_triangular_form(True)(ar.transpose(lower), y)
        return x, bad
    return compute


def _cholesky_solve_rules(upper: bool) -> Any:
    def change_of(factor: mx.array, change: mx.array) -> mx.array:
        """That of A where its factor changes."""
        factor, change = _part(factor, upper), _part(change, upper)
        half = ar.transpose(factor) @ change if upper else change @ ar.transpose(factor)
        return half + ar.transpose(half)

    def jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
        rest = tangents[1] - change_of(primals[0], tangents[0]) @ outputs[0]
        return [cholesky_solve(rest, primals[0], upper)]

    def vjp(primals: Given, cotangents: Given, outputs: Given) -> Given:
        of_b = cholesky_solve(cotangents[0], primals[0], upper)
        of_a = -of_b @ ar.transpose(outputs[0])
        _, (of_factor,) = mx.vjp(lambda change: [change_of(primals[0], change)], [mx.zeros_like(primals[0])], [of_a])
        return of_factor, of_b
    return jvp, vjp


def cholesky_solve(b: mx.array, a: mx.array, upper: bool = False, *, stream: ar.Stream = None,
                   **options: bool) -> Any:
    """x with A x = b, where a is the Cholesky factor L of A, or U."""
    o = Options("cholesky_solve", stream, **options)
    with mx.stream(o.stream):
        a, b, vector = _sides("cholesky_solve", a, b)
        jvp, vjp = _cholesky_solve_rules(upper)
        x, info = run(o, "cholesky_solve", [a, b], {"upper": float(upper)}, _cholesky_solve_form(upper), jvp, vjp)
        return o.finish([_back(x, vector)], info)


# ---- inverses

def _inv_jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
    return [-outputs[0] @ tangents[0] @ outputs[0]]


def inv(a: mx.array, *, stream: ar.Stream = None, **options: bool) -> Any:
    """The inverse of each square matrix."""
    o = Options("inv", stream, **options)
    a = ar.matrices("inv", a, square=True)
    x, info = run(o, "inv", [a], {}, calls.inv_form, _inv_jvp)
    return o.finish([x], info)


def tri_inv(a: mx.array, upper: bool = False, *, stream: ar.Stream = None, **options: bool) -> Any:
    """The inverse of each lower triangular matrix, or upper one; the other triangle is not read."""
    o = Options("tri_inv", stream, **options)
    a = ar.matrices("tri_inv", a, square=True)

    def jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
        return [-outputs[0] @ _part(tangents[0], upper) @ outputs[0]]

    x, info = run(o, "tri_inv", [a], {"upper": float(upper)}, calls.tri_inv_form(upper), jvp)
    return o.finish([x], info)


def cholesky_inv(a: mx.array, upper: bool = False, *, stream: ar.Stream = None, **options: bool) -> Any:
    """The inverse of A, where a is its Cholesky factor L, or U."""
    o = Options("cholesky_inv", stream, **options)
    a = ar.matrices("cholesky_inv", a, square=True)

    def form(factor: mx.array) -> tuple[mx.array, ...]:
        x, bad = calls.tri_inv_form(upper)(factor)
        return (x @ ar.transpose(x) if upper else ar.transpose(x) @ x), bad

    def jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
        factor, change = _part(primals[0], upper), _part(tangents[0], upper)
        half = ar.transpose(factor) @ change if upper else change @ ar.transpose(factor)
        return [-outputs[0] @ (half + ar.transpose(half)) @ outputs[0]]

    x, info = run(o, "cholesky_inv", [a], {"upper": float(upper)}, form, jvp)
    return o.finish([x], info)


# ---- determinants

def _slogdet_jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
    return mx.zeros_like(outputs[0]), ar.trace(solve(primals[0], tangents[0]))


def _slogdet(what: str, a: mx.array, options: Options) -> Any:
    a = ar.matrices(what, a, square=True, integers_too=True)
    return run(options, "slogdet", [a], {}, calls.slogdet_form, _slogdet_jvp)


def slogdet(a: mx.array, *, stream: ar.Stream = None, **options: bool) -> Any:
    """The sign and the logarithm of the magnitude of the determinant of each square matrix: 0 and -inf if singular."""
    o = Options("slogdet", stream, **options)
    sign, logarithm, info = _slogdet("slogdet", a, o)
    return o.finish([sign, logarithm], info)


def _product_of_pivots(a: mx.array, o: Options) -> tuple[mx.array, mx.array]:
    """The determinant in float64, where MLX's exp has float32's accuracy."""
    packed, pivots, _, _ = packed_lu(a, o)
    swaps = (pivots != mx.arange(a.shape[-1]).astype(mx.uint32)).sum(-1)
    value = mx.prod(ar.diagonal(packed), -1) * (1 - 2 * (swaps % 2)).astype(a.dtype)
    return value, ((value == 0) | mx.isnan(value)).astype(mx.int32)


def det(a: mx.array, *, stream: ar.Stream = None, **options: bool) -> Any:
    """The determinant of each square matrix."""
    o = Options("det", stream, **options)
    a = ar.matrices("det", a, square=True, integers_too=True)
    with mx.stream(ar.cpu_place(o.stream) if a.dtype == mx.float64 else o.stream):
        if a.dtype == mx.float64:
            value, info = _product_of_pivots(a, o)
            return o.finish([value], info)
        sign, logarithm, info = _slogdet("det", a, o)
        value = mx.where(sign == 0, sign, sign * mx.exp(mx.where(sign == 0, mx.zeros_like(sign), logarithm)))
        return o.finish([value], info)


# ---- least squares

def _cutoff(a: mx.array, rtol: Optional[float]) -> float:
    """As MLX's pinv: what is below this part of the largest singular value is 0."""
    return 10 * max(a.shape[-2:]) * mx.finfo(a.dtype).eps if rtol is None else rtol


def _pseudo(a: mx.array, rtol: Optional[float], o: Options) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    """Columns of V over the singular values that are not 0, U^T, those values, info."""
    u, s, vt, info = svd_parts(a, 1, o)
    largest = s.max(-1, keepdims=True) if s.shape[-1] else s
    kept = mx.where(s > _cutoff(a, rtol) * largest, s, mx.zeros_like(s))
    return ar.transpose(vt) * inverse_or_zero(kept)[..., None, :], ar.transpose(u), kept, info


def _pinv_jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
    a, change, x = primals[0], tangents[0], outputs[0]
    xt, ct = ar.transpose(x), ar.transpose(change)
    return [-x @ change @ x + x @ xt @ (ct - ct @ a @ x) + (ct - x @ a @ ct) @ xt @ x]


def pinv(a: mx.array, rtol: Optional[float] = None, *, stream: ar.Stream = None, **options: bool) -> Any:
    """The pseudo-inverse of each matrix; singular values up to rtol times the largest count as 0."""
    o = Options("pinv", stream, **options)
    a = ar.matrices("pinv", a)

    def compute(given: mx.array) -> tuple[mx.array, ...]:
        by_v, ut, _, info = _pseudo(given, rtol, Options("pinv", None, fallback=o.fallback))
        return by_v @ ut, info

    if a.size == 0:
        with mx.stream(o.stream):
            return o.finish([mx.zeros((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)], calls.no_info(a))
    x, info = apply(compute, _pinv_jvp, a, stream=_where(a, o))
    return o.finish([x], info)


def _where(a: mx.array, o: Options) -> ar.Where:
    """The stream of what is made of an svd: a CPU's where MLX's form is to run."""
    ours = calls.is_for_kernels("svd", o.stream, a, most=calls.MOST_COLUMNS)
    return o.stream if ours and not o.fallback else ar.cpu_place(o.stream)


def lstsq(a: mx.array, b: mx.array, rtol: Optional[float] = None, *, stream: ar.Stream = None,
          **options: bool) -> Any:
    """The x of least |x| among those of least |a x - b|, for each matrix; b is [m] or [..., m, k]."""
    o = Options("lstsq", stream, **options)
    a = ar.matrices("lstsq", a)
    b = ar.typed("lstsq", b if isinstance(b, mx.array) else mx.array(b), "b")
    vector = b.ndim == 1
    b = b[:, None] if vector else b
    if b.ndim < 2 or b.shape[-2] != a.shape[-2]:
        raise ValueError(f"[linalg] lstsq: a has shape {a.shape} and b {b.shape}: give as many rows of b as a has")
    a, b = ar.together("lstsq", a, b)

    def compute(a: mx.array, b: mx.array) -> tuple[mx.array, ...]:
        by_v, ut, _, info = _pseudo(a, rtol, Options("lstsq", None, fallback=o.fallback))
        return by_v @ (ut @ b), info

    def jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
        (a, b), (of_a, of_b), x = primals, tangents, outputs[0]
        inverse = pinv(a, rtol)
        along, change = ar.transpose(inverse), ar.transpose(of_a)
        rest = change @ (b - a @ x)
        far = change @ (along @ x)
        return [inverse @ (of_b - of_a @ x) + inverse @ (along @ rest) + far - inverse @ (a @ far)]

    with mx.stream(o.stream):
        if a.size == 0 or b.size == 0:
            return o.finish([_back(mx.zeros((*a.shape[:-2], a.shape[-1], b.shape[-1]), a.dtype), vector)],
                            calls.no_info(a))
        x, info = apply(compute, jvp, a, b, stream=_where(a, o))
        return o.finish([_back(x, vector)], info)
