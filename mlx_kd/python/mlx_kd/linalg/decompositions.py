"""qr, cholesky, lu, svd, eigh, and matrices that are orthogonal."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import mlx.core as mx

from mlx_kd.linalg import arrays as ar
from mlx_kd.linalg import calls
from mlx_kd.linalg.calls import MLX, MOST_COLUMNS, Options, run
from mlx_kd.linalg.rules import no_gradient

Given = Sequence[mx.array]


def right_solve(a: mx.array, upper: mx.array) -> mx.array:
    """a U^-1."""
    from mlx_kd.linalg.solving import solve_triangular
    return ar.transpose(solve_triangular(ar.transpose(upper), ar.transpose(a)))


def halved(a: mx.array) -> mx.array:
    """The lower triangle with half of the diagonal."""
    return mx.tril(a) - a * ar.eye_like(a) / 2


def inverse_or_zero(x: mx.array) -> mx.array:
    return mx.where(x == 0, mx.array(0, x.dtype), 1 / mx.where(x == 0, mx.array(1, x.dtype), x))


# ---- qr

def _qr_jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
    q, r = outputs[:2]
    of_a = right_solve(tangents[0], r)
    m = ar.transpose(q) @ of_a
    low = mx.tril(m, -1)
    turn = low - ar.transpose(low)
    return q @ turn + of_a - q @ m, (m - turn) @ r


def _reduced_qr(a: mx.array, options: Options) -> Any:
    why = "a has fewer rows than columns, and Q and R of such a matrix are not functions of it alone"
    jvp = _qr_jvp if a.shape[-2] >= a.shape[-1] else no_gradient("qr", why)
    return run(options, "qr", [a], {"mode": 0}, calls.qr_form, jvp)


def _complete_form(a: mx.array) -> tuple[mx.array, ...]:
    wide = mx.concatenate([a, mx.broadcast_to(mx.eye(a.shape[-2], dtype=a.dtype), (*a.shape[:-1], a.shape[-2]))], -1)
    q, r, info = calls.qr_form(wide)
    return q, r[..., :a.shape[-1]], info


def qr(a: mx.array, mode: str = "reduced", *, stream: ar.Stream = None, **options: bool) -> Any:
    """Q and R of each matrix, Q R = a; mode "complete" has a square Q, mode "r" gives R alone."""
    o = Options("qr", stream, **options)
    a = ar.matrices("qr", a)
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f"[linalg] qr: mode is {mode!r}: give 'reduced', 'complete' or 'r'")
    if mode == "complete" and a.shape[-2] > a.shape[-1]:
        refuse = no_gradient("qr", "the columns of a complete Q after the first n are not functions of a: "
                             "use mode='reduced'")
        q, r, info = run(o, "qr", [a], {"mode": 1}, _complete_form, refuse)
    else:
        q, r, info = _reduced_qr(a, o)
    return o.finish([r] if mode == "r" else [q, r], info)


def orthogonalise(a: mx.array, method: str = "qr", *, stream: ar.Stream = None, **options: bool) -> Any:
    """Orthonormal columns with the span of each leading part of a's, [..., m, n] with m >= n.

    Column j is what is left of a's after its parts along the earlier ones, so that R has a positive diagonal:
    by Householder's reflections ("qr"), or by Gram and Schmidt, twice ("gram_schmidt").
    """
    o = Options("orthogonalise", stream, **options)
    a = ar.matrices("orthogonalise", a)
    if a.shape[-2] < a.shape[-1]:
        raise ValueError(f"[linalg] orthogonalise: a has shape {a.shape}: give at least as many rows as columns")
    if method == "qr":
        q, r, info = _reduced_qr(a, o)
        with mx.stream(o.stream):
            return o.finish([q * _signs(r)], info)
    if method != "gram_schmidt":
        raise ValueError(f"[linalg] orthogonalise: method is {method!r}: give 'qr' or 'gram_schmidt'")
    with mx.stream(o.stream):
        q = _gram_schmidt(a)
        return o.finish([q], ar.nan_info(q))


def _signs(r: mx.array) -> mx.array:
    d = ar.diagonal(r)
    return mx.where(d < 0, mx.array(-1, r.dtype), mx.array(1, r.dtype))[..., None, :]


def _gram_schmidt(a: mx.array) -> mx.array:
    columns: list[mx.array] = []
    for j in range(a.shape[-1]):
        column = a[..., j:j + 1]
        if columns:
            q = mx.concatenate(columns, -1)
            for _ in range(2):
                column = column - q @ (ar.transpose(q) @ column)
        columns.append(column / mx.sqrt(mx.square(column).sum(-2, keepdims=True)))
    return mx.concatenate(columns, -1) if columns else a


def random_orthogonal(shape: Sequence[int], key: Optional[mx.array] = None, dtype: mx.Dtype = mx.float32, *,
                      stream: ar.Stream = None, **options: bool) -> Any:
    """Matrices [..., m, n] with orthonormal columns, or rows where m < n, uniform among all such."""
    o = Options("random_orthogonal", stream, **options)
    shape = tuple(shape)
    if len(shape) < 2:
        raise ValueError(f"[linalg] random_orthogonal: shape is {shape}: give at least two axes, [..., m, n]")
    m, n = shape[-2:]
    with mx.stream(o.stream):
        a = mx.random.normal((*shape[:-2], max(m, n), min(m, n)), key=key).astype(dtype)
        q, r, info = _reduced_qr(ar.typed("random_orthogonal", a, "dtype"), o)
        q = q * _signs(r)
        return o.finish([q if m >= n else ar.transpose(q)], info)


# ---- cholesky

def _cholesky_jvp(upper: bool) -> Any:
    def jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
        from mlx_kd.linalg.solving import solve_triangular
        lower = ar.transpose(outputs[0]) if upper else outputs[0]
        change = (tangents[0] + ar.transpose(tangents[0])) / 2
        half = solve_triangular(lower, ar.transpose(solve_triangular(lower, change)))
        found = lower @ halved(half)
        return [ar.transpose(found) if upper else found]
    return jvp


def cholesky(a: mx.array, upper: bool = False, *, stream: ar.Stream = None, **options: bool) -> Any:
    """L with L L^T = a, or U with U^T U = a, of each symmetric positive definite matrix."""
    o = Options("cholesky", stream, **options)
    a = ar.matrices("cholesky", a, square=True)
    factor, info = run(o, "cholesky", [a], {"upper": float(upper)}, calls.cholesky_form(upper), _cholesky_jvp(upper),
                       most=MOST_COLUMNS if ar.is_cpu(o.stream) else None)
    return o.finish([factor], info)


# ---- lu

def _lu_jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
    from mlx_kd.linalg.solving import solve_triangular
    packed, _, permutation = outputs[:3]
    change = mx.take_along_axis(tangents[0], permutation[..., None], -2)
    lower = mx.tril(packed, -1) + ar.eye_like(packed)
    upper = mx.triu(packed)
    f = right_solve(solve_triangular(lower, change), upper)
    return [lower @ mx.tril(f, -1) + mx.triu(f) @ upper]


def packed_lu(a: mx.array, options: Options) -> Any:
    """L and U in one matrix, pivots, the rows of a in the order of L U's, info."""
    why = "that of a matrix that is not square is not defined here: give square matrices"
    jvp = _lu_jvp if a.shape[-1] == a.shape[-2] else no_gradient("lu", why)
    return run(options, "lu", [a], {}, calls.lu_form, jvp)


def lu(a: mx.array, *, stream: ar.Stream = None, **options: bool) -> Any:
    """p, L and U of each matrix, with L[p, :] @ U = a."""
    o = Options("lu", stream, **options)
    a = ar.matrices("lu", a)
    with mx.stream(o.stream):
        packed, _, permutation, info = packed_lu(a, o)
        k = min(a.shape[-2:])
        lower = mx.tril(packed, -1)[..., :, :k] + mx.eye(a.shape[-2], k, dtype=a.dtype)
        return o.finish([mx.argsort(permutation, -1), lower, mx.triu(packed)[..., :k, :]], info)


def lu_factor(a: mx.array, *, stream: ar.Stream = None, **options: bool) -> Any:
    """L and U of each matrix in one, and the pivots."""
    o = Options("lu_factor", stream, **options)
    a = ar.matrices("lu_factor", a)
    with mx.stream(o.stream):
        packed, pivots, _, info = packed_lu(a, o)
        return o.finish([packed, pivots], info)


# ---- svd

def _svd_jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
    u, s, vt = outputs[:3]
    change, v, of_s = tangents[0], ar.transpose(vt), s[..., None, :]
    p = ar.transpose(u) @ change @ v
    squares = mx.square(s)
    f = inverse_or_zero(squares[..., None, :] - squares[..., :, None])
    inverse = inverse_or_zero(of_s)
    scaled, crossed = p * of_s, ar.transpose(p) * of_s
    by_u, by_v = change @ v, ar.transpose(change) @ u
    of_u = u @ (f * (scaled + ar.transpose(scaled))) + (by_u - u @ p) * inverse
    of_v = v @ (f * (ar.transpose(crossed) + crossed)) + (by_v - v @ ar.transpose(p)) * inverse
    return of_u, ar.diagonal(p), ar.transpose(of_v)


def _values_jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
    a = primals[0]
    u, _, vt = svd(a, full_matrices=False)
    none = outputs[0]
    return none, ((ar.transpose(u) @ tangents[0]) * vt).sum(-1)


def svd_parts(a: mx.array, form: int, o: Options) -> Any:
    """u, s, vt, info: `form` as calls.svd_form says."""
    if a.dtype == mx.complex64:
        jvp: Any = no_gradient("svd", "it has one for real types alone")
    elif form == 2:
        jvp = _values_jvp
    elif form == 1 or a.shape[-1] == a.shape[-2]:
        jvp = _svd_jvp
    else:
        jvp = no_gradient("svd", "the vectors after the first min(m, n) are not functions of a: "
                          "use full_matrices=False")
    return run(o, "svd", [a], {"form": form}, calls.svd_form(form), jvp, most=MOST_COLUMNS)


def svd(a: mx.array, compute_uv: bool = True, *, full_matrices: bool = True, stream: ar.Stream = None,
        **options: bool) -> Any:
    """U, S and Vt of each matrix, or S alone. Without full_matrices U and Vt have min(m, n) columns and rows."""
    o = Options("svd", stream, **options)
    a = ar.matrices("svd", a, complex_too=True)
    u, s, vt, info = svd_parts(a, 2 if not compute_uv else 0 if full_matrices else 1, o)
    return o.finish([u, s, vt] if compute_uv else [s], info)


# ---- eigh

def _eigh_jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
    w, v = outputs[:2]
    change = (tangents[0] + ar.transpose(tangents[0])) / 2
    inner = ar.transpose(v) @ change @ v
    f = inverse_or_zero(w[..., None, :] - w[..., :, None])
    return ar.diagonal(inner), v @ (f * inner)


def _eigenvalues_jvp(upper: bool) -> Any:
    def jvp(primals: Given, tangents: Given, outputs: Given) -> Given:
        _, v = eigh(primals[0], "U" if upper else "L")
        change = (tangents[0] + ar.transpose(tangents[0])) / 2
        return [((ar.transpose(v) @ change) * ar.transpose(v)).sum(-1)]
    return jvp


def _eigen(what: str, a: mx.array, uplo: str, values: bool, stream: ar.Stream, options: dict[str, bool]) -> Any:
    o = Options(what, stream, **options)
    a = ar.matrices(what, a, square=True, complex_too=True)
    if uplo not in ("L", "U"):
        raise ValueError(f"[linalg] {what}: UPLO is {uplo!r}: give 'L' or 'U'")
    upper = uplo == "U"
    jvp = _eigenvalues_jvp(upper) if values else _eigh_jvp
    if a.dtype == mx.complex64:
        jvp = no_gradient(what, "it has one for real types alone")
    w, v, info = run(o, "eigh", [a], {"upper": float(upper), "values": float(values)},
                     calls.eigh_form(upper, values), jvp, most=MOST_COLUMNS)
    return o.finish([w] if values else [w, v], info)


def eigh(a: mx.array, UPLO: str = "L", *, stream: ar.Stream = None, **options: bool) -> Any:
    """The eigenvalues, ascending, and the eigenvectors, as columns, of each symmetric matrix."""
    return _eigen("eigh", a, UPLO, False, stream, options)


def eigvalsh(a: mx.array, UPLO: str = "L", *, stream: ar.Stream = None, **options: bool) -> Any:
    """The eigenvalues of each symmetric matrix, ascending."""
    return _eigen("eigvalsh", a, UPLO, True, stream, options)


# ---- MLX's, on a CPU stream where the default one is not

def eig(a: mx.array, *, stream: ar.Stream = None) -> tuple[mx.array, mx.array]:
    """MLX's eig, on its CPU stream where a stream is another device's."""
    found: tuple[mx.array, mx.array] = MLX.eig(ar.matrices("eig", a, square=True, complex_too=True),
                                               stream=ar.cpu_place(ar.place(stream)))
    return found


def eigvals(a: mx.array, *, stream: ar.Stream = None) -> mx.array:
    """MLX's eigvals, on its CPU stream where a stream is another device's."""
    found: mx.array = MLX.eigvals(ar.matrices("eigvals", a, square=True, complex_too=True),
                                  stream=ar.cpu_place(ar.place(stream)))
    return found
