"""Operators that MLX lacks on a GPU run our kernels there and never fall back to MLX on the CPU."""
import unittest

from tests.support.package import PackageTest, temporary_folder

import mlx.core as mx

try:
    import numpy as np
except ImportError:
    np = None

import mlx_kd
import mlx_kd.linalg as la
from mlx_kd import xlstm

OF_MLX = ("Cholesky", "Eigh", "Inverse", "LUF", "QRF", "SVD")  # operators of MLX's graph that run on a CPU
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

    def ours(self, *results):
        """Asserts that the graph of the results has no operator of mx.linalg, and returns them."""
        path = temporary_folder(self) / "graph.dot"
        mx.export_to_dot(str(path), *results)
        for name in OF_MLX:
            self.assertNotIn(f'"{name}"', path.read_text())
        return results

    def close(self, got, wanted, tolerance=2e-4):
        np.testing.assert_allclose(np.array(got), np.array(wanted), rtol=tolerance, atol=tolerance)

    def test_factorisations_and_systems(self):
        a, b, n = batch(5, 33, 33), batch(5, 33, 2), 33
        spd = a @ mx.swapaxes(a, -1, -2) / n + mx.eye(n)
        lower = mx.tril(a / n) + mx.eye(n)
        one = np.broadcast_to(np.eye(n), (5, n, n))
        q, r, _ = self.ours(*mlx_kd.qr(a))
        self.close(q @ r, a)
        u, s, vt, _ = self.ours(*mlx_kd.svd(a))
        self.close((u * s[:, None, :]) @ vt, a)
        w, v, _ = self.ours(*mlx_kd.eigh(spd))
        self.close(spd @ v, v * w[:, None, :])
        low, _ = self.ours(*mlx_kd.cholesky(spd))
        self.close(low @ mx.swapaxes(low, -1, -2), spd)
        self.close(spd @ self.ours(*mlx_kd.solve(spd, b))[0], b)
        self.close(self.ours(*mlx_kd.inv(spd))[0] @ spd, one)
        self.close(lower @ self.ours(*mlx_kd.tri_inv(lower))[0], one)
        self.close(lower @ self.ours(*mlx_kd.solve_triangular(lower, b))[0], b)
        self.close(spd @ self.ours(*mlx_kd.cholesky_solve(low, b))[0], b)
        self.close(spd @ self.ours(*mlx_kd.cholesky_inv(low))[0], one, 1e-3)
        self.close(self.ours(*mlx_kd.slogdet(spd))[1], np.linalg.slogdet(np.array(spd))[1], 1e-3)
        mx.eval(self.ours(*mlx_kd.lu(a)))
        self.assertEqual(mlx_kd.stats()["fallbacks"], 0)

    def test_matrices_that_do_not_fit_into_shared_memory(self):
        a, n = batch(2, 300, 300), 300
        spd = a @ mx.swapaxes(a, -1, -2) / n + mx.eye(n)
        low, _ = self.ours(*mlx_kd.cholesky(spd))
        self.close(np.array(low) @ np.array(low).swapaxes(-1, -2), spd, 1e-3)
        x, _ = self.ours(*mlx_kd.solve(spd, a))
        self.close(np.array(spd) @ np.array(x), a, 1e-3)
        tall = batch(1, 5000, 20)
        q, r, _ = self.ours(*mlx_kd.qr(tall))
        self.close(np.array(q) @ np.array(r), tall, 1e-4)

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
        arrays = [q, k, v, i, f]

        def gradients():
            return mx.grad(lambda *x: xlstm.mlstm_chunkwise(*x).square().sum(), argnums=range(5))(*arrays)
        on_gpu = gradients()
        with mx.stream(mx.cpu):
            for got, wanted in zip(on_gpu, gradients()):
                self.close(got / mx.abs(wanted).max(), wanted / mx.abs(wanted).max(), 1e-3)
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
