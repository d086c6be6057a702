"""mlx_kd.matmul: kernels and MLX's form agree on every way to give matrices."""
import itertools
import unittest

from tests.support.package import PackageTest

import mlx.core as mx

import mlx_kd


def swapped(x):
    return mx.contiguous(mx.swapaxes(x, -1, -2))


class Matmul(PackageTest):
    def setUp(self):
        mx.random.seed(11)
        self.addCleanup(mlx_kd.reset_settings)

    def both(self):
        for kernels in ([], ["matmul"]):
            mlx_kd.configure(default_kernels=kernels)
            yield

    def assert_near(self, got, wanted):
        self.assertEqual(got.shape, wanted.shape)
        self.assertLess((mx.abs(got - wanted).max() / mx.abs(wanted).max()).item(), 1e-5)

    def test_all_transpositions_and_leading_axes(self):
        for leading, (ta, tb) in itertools.product(((), (3,), (2, 3)), itertools.product((0, 1), repeat=2)):
            a, b = mx.random.normal((*leading, 7, 50)), mx.random.normal((*leading, 50, 19))
            for _ in self.both():
                y = mlx_kd.matmul(swapped(a) if ta else a, swapped(b) if tb else b, transpose_a=ta, transpose_b=tb)
                self.assert_near(y, a @ b)

    def test_what_is_added_and_the_activation(self):
        a, b = mx.random.normal((2, 6, 33)), mx.random.normal((33, 8))
        c, bias = mx.random.normal((6, 8)), mx.random.normal((8,))
        wanted = 0.5 * (a @ b) + 2 * c + bias
        forms = (wanted, mx.maximum(wanted, 0), wanted * mx.sigmoid(wanted))
        for _ in self.both():
            for activation, form in enumerate(forms):
                y = mlx_kd.matmul(a, b, c, bias, alpha=0.5, beta=2.0, activation=activation)
                self.assert_near(y, form)

    def test_views_are_multiplied_as_they_lie(self):
        a, b = mx.random.normal((5, 40, 64)), mx.random.normal((64, 30))
        for _ in self.both():
            self.assert_near(mlx_kd.matmul(a[::2, 3:20, 8:40], b[8:40, ::1]), a[::2, 3:20, 8:40] @ b[8:40])
            self.assert_near(mlx_kd.matmul(a[1, 2:9], b), a[1, 2:9] @ b)
            self.assert_near(mlx_kd.matmul(a[0], swapped(b)[:, :64].T), a[0] @ b)

    def test_gradients_are_those_of_mlx(self):
        a, b = mx.random.normal((4, 9)), mx.random.normal((9, 3))
        for _ in self.both():
            ours = mx.grad(lambda a: mx.square(mlx_kd.matmul(a, b)).sum())(a)
            self.assert_near(ours, mx.grad(lambda a: mx.square(a @ b).sum())(a))

    def test_shapes_that_do_not_go_together_are_refused(self):
        for a, b, message in (((4, 5), (6, 3), r"b has shape \(6, 3\): it must be \(5, 3\)"),
                              ((2, 4, 5), (3, 5, 3), r"b has shape \(3, 5, 3\)"),
                              ((5,), (5, 3), r"a has shape \(5\): it must be of at least two axes")):
            with self.assertRaisesRegex(ValueError, message):
                mlx_kd.matmul(mx.zeros(a), mx.zeros(b))
        with self.assertRaisesRegex(ValueError, r"bias has shape \(4\)"):
            mlx_kd.matmul(mx.zeros((4, 5)), mx.zeros((5, 3)), None, mx.zeros((4,)))


if __name__ == "__main__":
    unittest.main()
