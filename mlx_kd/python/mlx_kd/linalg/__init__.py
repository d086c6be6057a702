"""mlx_kd.linalg: linear algebra on batches of matrices, with the names, arguments and returns of mx.linalg.

>>> import mlx.core as mx, mlx_kd.linalg as la
>>> a = mx.array([[2.0, 0.0], [0.0, 3.0]])
>>> la.svd(a, compute_uv=False, stream=mx.cpu)
array([3, 2], dtype=float32)
>>> x, info = la.inv(mx.stack([a, 0 * a]), stream=mx.cpu, return_info=True)
>>> info
array([0, 1], dtype=int32)

A matrix that fails (it is singular, not positive definite, or not finite) gives NaN, and the rest of its batch is
right. Each function but eig, eigvals, cross, matmul_dd and newton_schulz takes

- ``return_info=True``: one more result, int32, 0 for each matrix that did not fail;
- ``check=True``: evaluates, and raises ValueError with the places of the matrices that failed;
- ``fallback=True``: where no kernel runs on a GPU, MLX's form on the CPU does.

Gradients (vjp and jvp) and vmap are those of docs/linalg.md.
"""
from mlx_kd.linalg.decompositions import (
    cholesky, eig, eigh, eigvals, eigvalsh, lu, lu_factor, orthogonalise, qr, random_orthogonal, svd)
from mlx_kd.linalg.measures import cond, cross, matmul_dd, matrix_rank, newton_schulz, norm
from mlx_kd.linalg.replace import enable
from mlx_kd.linalg.solving import (
    cholesky_inv, cholesky_solve, det, inv, lstsq, pinv, slogdet, solve, solve_triangular, tri_inv)

__all__ = [
    "cholesky", "cholesky_inv", "cholesky_solve", "cond", "cross", "det", "eig", "eigh", "eigvals", "eigvalsh",
    "enable", "inv", "lstsq", "lu", "lu_factor", "matmul_dd", "matrix_rank", "newton_schulz", "norm", "orthogonalise",
    "pinv", "qr", "random_orthogonal", "slogdet", "solve", "solve_triangular", "svd", "tri_inv"]
