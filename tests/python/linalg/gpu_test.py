"""Operators that MLX lacks on a GPU run our kernels there and never fall back to MLX on the CPU."""
import unittest

from tests.support.package import PackageTest

import mlx.core as mx

try:
    import numpy as np
except ImportError:
    np = None

import mlx_kd
import mlx_kd.linalg as la
from mlx_kd import xlstm

HAS_GPU = mx.is_available(mx.gpu) and not mx.metal.is_available()


def batch(*shape):
    return mx.array(np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32))


@unittest.skipUnless(HAS_GPU, "no NVIDIA GPU, or an MLX without CUDA")
@unittest.skipUnless(np, "numpy is not installed")
class OnAGpu(PackageTest):
    def setUp(self):
        mx.set_default_device(mx.gpu)
        self.addCleanup(mx.set_default_device, mx.gpu)
        mlx_kd.reset_stats()

    def expect_kernels(self, calls):
        now = mlx_kd.stats()
        self.assertEqual(now["fallbacks"], 0, now)
        self.assertEqual(now["defaults"], calls, now)

    def close(self, got, wanted, tolerance=2e-4):
        np.testing.assert_allclose(np.array(got), np.array(wanted), rtol=tolerance, atol=tolerance)

    def test_factorisations_and_systems(self):
        a, b, n = batch(5, 33, 33), batch(5, 33, 2), 33
        spd = a @ mx.swapaxes(a, -1, -2) / n + mx.eye(n)
        lower = mx.tril(a / n) + mx.eye(n)
        q, r, *_ = mlx_kd.qr(a)
        self.close(q @ r, a)
        u, s, vt, *_ = mlx_kd.svd(a)
        self.close((u * s[:, None, :]) @ vt, a)
        w, v, *_ = mlx_kd.eigh(spd)
        self.close(spd @ v, v * w[:, None, :])
        low, *_ = mlx_kd.cholesky(spd)
        self.close(low @ mx.swapaxes(low, -1, -2), spd)
        x, *_ = mlx_kd.solve(spd, b)
        self.close(spd @ x, b)
        self.close(mlx_kd.inv(spd)[0] @ spd, np.broadcast_to(np.eye(n), (5, n, n)))
        self.close(lower @ mlx_kd.tri_inv(lower)[0], np.broadcast_to(np.eye(n), (5, n, n)))
        self.close(lower @ mlx_kd.solve_triangular(lower, b)[0], b)
        self.close(spd @ mlx_kd.cholesky_solve(low, b)[0], b)
        self.close(spd @ mlx_kd.cholesky_inv(low)[0], np.broadcast_to(np.eye(n), (5, n, n)), 1e-3)
        self.close(mlx_kd.slogdet(spd)[1], np.linalg.slogdet(np.array(spd))[1], 1e-3)
        mx.eval(mlx_kd.lu(a))
        self.expect_kernels(12)

    def test_front_with_gradients_and_a_matrix_that_fails(self):
        a = batch(3, 24, 24)
        q, r = la.qr(a)
        self.close(q @ r, a)
        gradient = mx.grad(lambda x: la.svd(x, compute_uv=False).sum())(a)
        u, _, vt = np.linalg.svd(np.array(a))
        self.close(gradient, u @ vt, 1e-3)
        bad = mx.concatenate([a[:1], mx.zeros((1, 24, 24))])
        inverse, info = la.inv(bad, return_info=True)
        self.assertEqual([int(x) > 0 for x in info], [False, True])
        self.assertTrue(bool(mx.all(mx.isnan(inverse[1]))) and not bool(mx.any(mx.isnan(inverse[0]))))
        self.assertEqual(mlx_kd.stats()["fallbacks"], 0)

    def test_mlstm(self):
        q, k, v = batch(2, 3, 70, 16), batch(2, 3, 70, 16), batch(2, 3, 70, 24)
        i, f = batch(2, 3, 70), 2 + batch(2, 3, 70)
        h, (c, n, m) = xlstm.mlstm_chunkwise(q, k, v, i, f, return_last_states=True)
        mx.eval(h, c, n, m)
        state = None
        for t in range(70):
            one, state = xlstm.mlstm_step(*(x[:, :, t] for x in (q, k, v, i, f)),
                                          state or (mx.zeros((2, 3, 16, 24)), mx.zeros((2, 3, 16)), mx.zeros((2, 3))))
            self.close(one, h[:, :, t], 1e-3)
        self.close(state[0], c, 1e-3)
        self.assertEqual(mlx_kd.stats()["fallbacks"], 0)


if __name__ == "__main__":
    unittest.main()
