"""mlx_kd.matmul on an NVIDIA GPU: its kernels in CUDA C++, beside float64."""
import itertools
import unittest

from tests.support.package import PackageTest
from tests.support import on_demand

on_demand.need("numpy")

import numpy as np

import mlx.core as mx

import mlx_kd

HAS_GPU = mx.is_available(mx.gpu) and not mx.metal.is_available()
UNITS = {mx.float32: 2.0 ** -24, mx.float16: 2.0 ** -11, mx.bfloat16: 2.0 ** -8}


def wide(x):
    return np.array(x.astype(mx.float32)).astype(np.float64)


@unittest.skipUnless(HAS_GPU, "no NVIDIA GPU, or an MLX without CUDA")
class MatmulOnAGpu(PackageTest):
    def setUp(self):
        mx.set_default_device(mx.gpu)
        mx.random.seed(5)
        mlx_kd.configure(default_kernels=["matmul"])
        self.addCleanup(mlx_kd.reset_settings)
        mlx_kd.reset_stats()

    def tearDown(self):
        self.assertEqual(mlx_kd.stats()["fallbacks"], 0)

    def assert_product(self, y, a, b, what):
        """Within 1e-6 of the sum of magnitudes, and one rounding, of a b."""
        a, b = wide(a), wide(b)
        exact, magnitudes = a @ b, np.abs(a) @ np.abs(b)
        off = np.abs(wide(y) - exact) / (1e-6 * magnitudes + 1.01 * UNITS[y.dtype] * np.abs(exact) + 1e-7)
        self.assertEqual(y.shape, exact.shape, what)
        self.assertLess(off.max(), 1, what)

    def operands(self, leading, m, n, k, dtype):
        return (mx.random.normal((*leading, *shape)).astype(dtype) for shape in ((m, k), (k, n)))

    def test_all_transpositions_of_whole_and_odd_sizes(self):
        sizes = (((), 256, 384, 320), ((), 200, 136, 72), ((), 129, 131, 257), ((3,), 192, 264, 100), ((2, 2), 70, 50, 130),
                 ((), 40, 48, 9000), ((5,), 16, 24, 64), ((), 1000, 1, 333))
        for dtype, (leading, m, n, k) in itertools.product(UNITS, sizes):
            a, b = self.operands(leading, m, n, k, dtype)
            for ta, tb in itertools.product((0, 1), repeat=2):
                left = mx.contiguous(mx.swapaxes(a, -1, -2)) if ta else a
                right = mx.contiguous(mx.swapaxes(b, -1, -2)) if tb else b
                y = mlx_kd.matmul(left, right, transpose_a=ta, transpose_b=tb)
                self.assert_product(y, a, b, (dtype, leading, m, n, k, ta, tb))

    def test_views_and_matrices_that_are_shared(self):
        for dtype in UNITS:
            a, b = self.operands((4,), 300, 520, 256, dtype)
            for left, right in ((a[:, 8:208, 64:200], b[:, 64:200, 8:400]), (a[1:3, ::2, :130], b[1:3, :130, 1:300]),
                                (a, b[0]), (a[0], b), (a[:, :, :136], b[2, :136, :333])):
                self.assert_product(mlx_kd.matmul(left, right), left, right, (dtype, left.shape, right.shape))

    def test_what_is_added_and_activations(self):
        for dtype, (m, n, k) in itertools.product(UNITS, ((256, 200, 128), (33, 65, 47))):
            a, b = self.operands((2,), m, n, k, dtype)
            c, bias = mx.random.normal((2, m, n)).astype(dtype), mx.random.normal((n,)).astype(dtype)
            y = 0.5 * (wide(a) @ wide(b)) + 2 * wide(c) + wide(bias)
            inner = 1.5957691216 * (y + 0.044715 * y ** 3)
            forms = (y, np.maximum(y, 0), y / (1 + np.exp(-y)), y / (1 + np.exp(-inner)))
            for activation, wanted in enumerate(forms):
                got = wide(mlx_kd.matmul(a, b, c, bias, alpha=0.5, beta=2.0, activation=activation))
                self.assertLess(np.abs(got - wanted).max(), np.abs(wanted).max() * (UNITS[dtype] + 2e-6), (dtype, activation))


if __name__ == "__main__":
    unittest.main()
