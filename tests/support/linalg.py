"""Matrices for the tests of mlx_kd.linalg, and how near results are to be."""
from tests.support.package import PackageTest

import mlx.core as mx

EPS = 2.0 ** -24


def numbers(*shape, seed=0):
    return mx.random.normal(shape, key=mx.random.key(seed))


def transpose(a):
    return mx.swapaxes(a, -1, -2)


def positive(*shape):
    a = numbers(*shape)
    return a @ transpose(a) + mx.eye(shape[-1])


def symmetric(*shape):
    a = numbers(*shape)
    return a + transpose(a)


def largest(a):
    return mx.abs(a).max().item() if a.size else 0.0


class Front(PackageTest):
    def setUp(self):
        before = mx.default_device()
        self.addCleanup(mx.set_default_device, before)
        mx.set_default_device(mx.cpu)

    def assert_near(self, got, wanted, factor=1.0):
        """Within 30 roundings a column of the largest element, times the factor."""
        self.assertEqual(got.shape, wanted.shape)
        columns = max([1, *wanted.shape[-2:]])
        self.assertLessEqual(largest(got - wanted), 30 * factor * columns * EPS * max(largest(wanted), 1e-30))

    def assert_orthonormal(self, q):
        self.assert_near(transpose(q) @ q, mx.broadcast_to(mx.eye(q.shape[-1]), (*q.shape[:-2],) + (q.shape[-1],) * 2))
