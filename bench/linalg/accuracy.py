#!/usr/bin/env python3
"""Residuals of the factorisations on this CPU: mlx_kd and MLX, on the same matrices.

    bench/linalg/accuracy.py [--out bench/results/linalg_accuracy.json]

Run it with a Python that has mlx_kd and NumPy. Each entry is the largest LAPACK ratio of the operator (docs/linalg-operators.md)
over 20 matrices of each size, computed in float64; none where MLX has no such form or fails.
"""
import argparse
import datetime
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np

import mlx_kd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import machine, rounded, write_result  # noqa: E402

EPS = 2.0 ** -24
COUNT, SIZES = 20, (4, 16, 33, 64, 128)


def norm(a):
    return np.abs(a).sum(-2).max(-1)


def random_of(n, rng):
    return rng.standard_normal((COUNT, n, n))


def graded(n, rng):
    u, v = np.linalg.qr(random_of(n, rng))[0], np.linalg.qr(random_of(n, rng))[0]
    return u * np.logspace(0, -6, n) @ v


def hilbert(n, rng):
    i = np.arange(n)
    return np.broadcast_to(1 / (i[:, None] + i + 1.0), (COUNT, n, n))


def deficient(n, rng):
    return rng.standard_normal((COUNT, n, n // 2)) @ rng.standard_normal((COUNT, n // 2, n))


def nearly_singular(n, rng):
    a = random_of(n, rng)
    a[..., -1] = a[..., 0] * (1 + 1e-5 * rng.standard_normal((COUNT, n)))
    return a


KINDS = {"random": random_of, "graded": graded, "Hilbert": hilbert, "rank-deficient": deficient,
         "nearly singular": nearly_singular}


def triangle(a):
    n = a.shape[-1]
    return (np.tril(a / n) + 1.5 * np.eye(n)).astype(np.float32)


def of(x):
    return np.array(x).astype(np.float64)


def residual(a, x, b):
    return norm(a @ x - b) / (norm(a) * norm(x) * EPS)


def inverse_residual(a, x):
    n = a.shape[-1]
    return norm(np.eye(n) - a @ x) / (n * norm(a) * norm(x) * EPS)


def qr_ratios(a, q, r):
    n = a.shape[-1]
    q, r = of(q), of(r)
    orthogonality = norm(np.eye(n) - q.swapaxes(-1, -2) @ q) / (n * EPS)
    return np.maximum(norm(a - q @ r) / (n * norm(a) * EPS), orthogonality)


def lu_ratios(a, lu, order):
    n, x = a.shape[-1], of(lu)
    moved = np.take_along_axis(a, order[..., None].astype(int), -2)
    return norm(moved - (np.tril(x, -1) + np.eye(n)) @ np.triu(x)) / (n * norm(a) * EPS)


def orthogonality(q):
    n = q.shape[-1]
    return norm(np.eye(n) - q.swapaxes(-1, -2) @ q) / (q.shape[-2] * EPS)


def svd_ratios(a, u, s, vt):
    u, s, vt = of(u), of(s), of(vt)
    rest = norm(a - (u * s[..., None, :]) @ vt) / (a.shape[-1] * norm(a) * EPS)
    return np.maximum(rest, np.maximum(orthogonality(u), orthogonality(vt.swapaxes(-1, -2))))


def values_ratios(a, s):
    exact = np.linalg.svd(a, compute_uv=False)
    return np.abs(of(s) - exact).max(-1) / (exact.max(-1) * a.shape[-1] * EPS)


def eigh_ratios(a, w, v):
    w, v = of(w), of(v)
    return np.maximum(norm(a @ v - v * w[..., None, :]) / (a.shape[-1] * norm(a) * EPS), orthogonality(v))


def cholesky_ratios(a, factor):
    factor = of(factor)
    return norm(a - factor @ factor.swapaxes(-1, -2)) / (a.shape[-1] * norm(a) * EPS)


def of_spectra(op, a, a64):
    """svd, eigh and cholesky, of mlx_kd and of MLX."""
    la, cpu = mx.linalg, mx.cpu
    if op == "svd":
        return svd_ratios(a64, *mlx_kd.svd(a)[:3]), lambda: svd_ratios(a64, *la.svd(a, stream=cpu))
    if op == "svd, values":
        return (values_ratios(a64, mlx_kd.svd(a, form=2)[1]),
                lambda: values_ratios(a64, la.svd(a, compute_uv=False, stream=cpu)))
    if op == "eigh":
        a = mx.tril(a) + mx.swapaxes(mx.tril(a, -1), -1, -2)
        return eigh_ratios(of(a), *mlx_kd.eigh(a)[:2]), lambda: eigh_ratios(of(a), *la.eigh(a, stream=cpu))
    n = a.shape[-1]
    a = a @ mx.swapaxes(a, -1, -2) + n * mx.eye(n) * mx.abs(a).max()
    a = mx.tril(a) + mx.swapaxes(mx.tril(a, -1), -1, -2)
    return cholesky_ratios(of(a), mlx_kd.cholesky(a)[0]), lambda: cholesky_ratios(of(a), la.cholesky(a, stream=cpu))


def order_of(pivots):
    pivots = np.array(pivots)
    order = np.broadcast_to(np.arange(pivots.shape[-1]), pivots.shape).copy()
    for each, row in zip(order, pivots):
        for i, k in enumerate(row):
            each[[i, k]] = each[[k, i]]
    return order


def ratios(op, x, b):
    """Of mlx_kd and of MLX; matrices that failed are left out."""
    la, cpu = mx.linalg, mx.cpu
    a, t = mx.array(x.astype(np.float32)), mx.array(triangle(x))
    a64, t64, b64, sides = of(a), of(t), of(b), mx.array(b)
    if op in SPECTRA:
        return of_spectra(op, a, a64)
    if op == "qr":
        return qr_ratios(a64, *mlx_kd.qr(a)[:2]), lambda: qr_ratios(a64, *la.qr(a, stream=cpu))
    if op == "lu":
        lu, _, order, _ = mlx_kd.lu(a)

        def theirs():
            factors, pivots = la.lu_factor(a, stream=cpu)
            return lu_ratios(a64, factors, order_of(pivots))
        return lu_ratios(a64, lu, np.array(order)), theirs
    if op == "solve":
        return (residual(a64, of(mlx_kd.solve(a, sides)[0]), b64),
                lambda: residual(a64, of(la.solve(a, sides, stream=cpu)), b64))
    if op == "inv":
        return inverse_residual(a64, of(mlx_kd.inv(a)[0])), lambda: inverse_residual(a64, of(la.inv(a, stream=cpu)))
    if op == "solve_triangular":
        return (residual(t64, of(mlx_kd.solve_triangular(t, sides)[0]), b64),
                lambda: residual(t64, of(la.solve_triangular(t, sides, stream=cpu)), b64))
    if op == "tri_inv":
        return (inverse_residual(t64, of(mlx_kd.tri_inv(t)[0])),
                lambda: inverse_residual(t64, of(la.tri_inv(t, stream=cpu))))
    whole = t64 @ t64.swapaxes(-1, -2)
    if op == "cholesky_inv":
        return (inverse_residual(whole, of(mlx_kd.cholesky_inv(t)[0])),
                lambda: inverse_residual(whole, of(la.cholesky_inv(t, stream=cpu))))
    return residual(whole, of(mlx_kd.cholesky_solve(t, sides)[0]), b64), None


SPECTRA = ("svd", "svd, values", "eigh", "cholesky")
OPS = ("qr", "lu", "solve", "inv", "solve_triangular", "tri_inv", "cholesky_inv", "cholesky_solve", *SPECTRA)


def largest(found):
    found = found[~np.isnan(found)]
    return float(found.max()) if found.size else None


def entry(op, kind):
    ours, theirs = [], []
    for n in SIZES:
        rng = np.random.default_rng(n)
        x, b = KINDS[kind](n, rng), rng.standard_normal((COUNT, n, 3)).astype(np.float32)
        found, of_mlx = ratios(op, x, b)
        ours.append(largest(found))
        try:
            theirs.append(largest(of_mlx()) if of_mlx else None)
        except (RuntimeError, ValueError):
            theirs.append(None)
    most = [max((x for x in each if x is not None), default=None) for each in (ours, theirs)]
    return {"op": op, "kind": kind, "mlx_kd": most[0], "MLX": None if None in theirs else most[1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out")
    args = parser.parse_args()
    kinds = {op: KINDS if op in ("qr", "lu", "solve", "inv", *SPECTRA[:3]) else ("random",) for op in OPS}
    rows = [entry(op, kind) for op in OPS for kind in kinds[op]]
    write_result(rounded({"date": datetime.date.today().isoformat(), "machine": machine(), "mlx": mx.__version__,
                          "sizes": list(SIZES), "rows": rows}), args.out)


if __name__ == "__main__":
    main()
