"""Gradients of mlx_kd.linalg against finite differences in float64; vjp, jvp and vmap against each other."""
import math
import unittest

from tests.support.package import PackageTest

import mlx.core as mx

import mlx_kd.linalg as la

STEP = 1e-5


def numbers(*shape, seed=0, dtype=mx.float64):
    return mx.random.normal(shape, key=mx.random.key(seed), stream=mx.cpu).astype(dtype, stream=mx.cpu)


def symmetric(a):
    return (a + mx.swapaxes(a, -1, -2)) / 2


def positive(a):
    return a @ mx.swapaxes(a, -1, -2) + mx.eye(a.shape[-1], dtype=a.dtype)


def lower(a):
    return mx.tril(a, -1) + mx.eye(a.shape[-1], dtype=a.dtype) * (2 + mx.abs(a))


def upper(a):
    return mx.swapaxes(lower(a), -1, -2)


def low_rank(a):
    return a[..., :2] @ a[..., :2, :]


def sums(*arrays):
    """A number that depends on every element of its own."""
    total = mx.array(0.0, arrays[0].dtype)
    for number, a in enumerate(arrays):
        weights = mx.sin(mx.arange(1, a.size + 1).astype(a.dtype) * (number + 0.7)).reshape(a.shape)
        total = total + (weights * a).sum()
    return total


def of_subspaces(u, s, vt):
    """Of what singular vectors span together: their signs do not matter."""
    weights = mx.cos(mx.arange(s.size).astype(s.dtype)).reshape(s.shape)
    return sums(u @ (weights[..., None] * vt), s)


def of_eigenvectors(w, v):
    weights = mx.cos(mx.arange(w.size).astype(w.dtype)).reshape(w.shape)
    return sums(v @ (weights[..., None] * mx.swapaxes(v, -1, -2)), w)


# name: function of one array, the array; made of any square or tall one so that it may be moved anywhere.
CASES = {
    "qr, square": (lambda a: sums(*la.qr(a)), numbers(2, 4, 4)),
    "qr, tall": (lambda a: sums(*la.qr(a)), numbers(2, 5, 3)),
    "orthogonalise": (lambda a: sums(la.orthogonalise(a)), numbers(5, 3)),
    "orthogonalise by Gram and Schmidt": (lambda a: sums(la.orthogonalise(a, "gram_schmidt")), numbers(5, 3)),
    "cholesky": (lambda a: sums(la.cholesky(positive(a))), numbers(2, 4, 4)),
    "cholesky, upper": (lambda a: sums(la.cholesky(positive(a), upper=True)), numbers(4, 4)),
    "cholesky_inv": (lambda a: sums(la.cholesky_inv(lower(a))), numbers(4, 4)),
    "cholesky_inv, upper": (lambda a: sums(la.cholesky_inv(upper(a), upper=True)), numbers(4, 4)),
    "cholesky_solve": (lambda a: sums(la.cholesky_solve(a[..., :2], lower(a))), numbers(2, 4, 4)),
    "cholesky_solve, upper": (lambda a: sums(la.cholesky_solve(a[..., :2], upper(a), upper=True)), numbers(4, 4)),
    "lu": (lambda a: sums(*la.lu(a)[1:]), numbers(2, 4, 4)),
    "lu_factor": (lambda a: sums(la.lu_factor(a)[0]), numbers(4, 4)),
    "solve": (lambda a: sums(la.solve(a, a[..., :2] * 2 + 1)), numbers(2, 4, 4)),
    "solve, a vector": (lambda a: sums(la.solve(a, a[0] * 2 + 1)), numbers(4, 4)),
    "solve_triangular": (lambda a: sums(la.solve_triangular(lower(a), a)), numbers(2, 4, 4)),
    "solve_triangular, upper": (lambda a: sums(la.solve_triangular(upper(a), a, upper=True)), numbers(4, 4)),
    "inv": (lambda a: sums(la.inv(a)), numbers(2, 4, 4)),
    "tri_inv": (lambda a: sums(la.tri_inv(lower(a))), numbers(4, 4)),
    "tri_inv, upper": (lambda a: sums(la.tri_inv(upper(a), upper=True)), numbers(4, 4)),
    "det": (lambda a: sums(la.det(a)), numbers(3, 4, 4)),
    "slogdet": (lambda a: sums(la.slogdet(a)[1]), numbers(3, 4, 4)),
    "svd": (lambda a: of_subspaces(*la.svd(a)), numbers(2, 4, 4)),
    "svd, tall": (lambda a: of_subspaces(*la.svd(a, full_matrices=False)), numbers(5, 3)),
    "svd, wide": (lambda a: of_subspaces(*la.svd(a, full_matrices=False)), numbers(3, 5)),
    "singular values": (lambda a: sums(la.svd(a, compute_uv=False)), numbers(2, 5, 3)),
    "eigh": (lambda a: of_eigenvectors(*la.eigh(symmetric(a))), numbers(2, 4, 4)),
    "eigvalsh": (lambda a: sums(la.eigvalsh(symmetric(a), "U")), numbers(2, 4, 4)),
    "pinv": (lambda a: sums(la.pinv(a)), numbers(2, 5, 3)),
    "pinv, wide": (lambda a: sums(la.pinv(a)), numbers(3, 5)),
    "pinv at constant rank": (lambda a: sums(la.pinv(low_rank(a))), numbers(4, 4)),
    "lstsq": (lambda a: sums(la.lstsq(a, a[..., :2] * a[..., 1:])), numbers(2, 5, 3)),
    "lstsq at constant rank": (lambda a: sums(la.lstsq(low_rank(a), a)), numbers(4, 4)),
    "cond": (lambda a: sums(la.cond(a)), numbers(4, 3)),
    "cond in norm 1": (lambda a: sums(la.cond(a, 1)), numbers(4, 4)),
    "newton_schulz": (lambda a: sums(la.newton_schulz(a)), numbers(4, 3)),
    **{f"norm {order}": (lambda a, order=order: sums(la.norm(a, order, (-2, -1))), numbers(2, 4, 3))
       for order in ("fro", "nuc", 1, -1, 2, -2, math.inf)},
}


def by_differences(function, a):
    flat, found = a.reshape(-1), []
    for i in range(a.size):
        move = mx.zeros_like(flat)
        move[i] = STEP
        ahead, behind = (function((flat + sign * move).reshape(a.shape)) for sign in (1, -1))
        found.append((ahead - behind) / (2 * STEP))
    return mx.stack(found).reshape(a.shape)


class Gradients(PackageTest):
    def setUp(self):
        before = mx.default_device()
        self.addCleanup(mx.set_default_device, before)
        mx.set_default_device(mx.cpu)

    def assert_close(self, got, wanted, tolerance):
        size = mx.abs(wanted).max().item() + 1e-3
        self.assertEqual(got.shape, wanted.shape)
        self.assertLess(mx.abs(got - wanted).max().item() / size, tolerance)

    def test_they_are_finite_differences(self):
        for name, (function, a) in CASES.items():
            with self.subTest(name):
                self.assert_close(mx.grad(function)(a), by_differences(function, a), 1e-6)

    def test_those_of_float32_are_those_of_float64(self):
        for name, (function, a) in CASES.items():
            with self.subTest(name):
                wanted = mx.grad(function)(a)
                got = mx.grad(function)(a.astype(mx.float32))
                self.assertEqual(got.dtype, mx.float32)
                self.assert_close(got.astype(mx.float64), wanted, 2e-3)

    def test_the_jvp_is_the_gradient_along_its_tangent(self):
        for name, (function, a) in CASES.items():
            with self.subTest(name):
                along = numbers(*a.shape, seed=9)
                _, (slope,) = mx.jvp(function, [a], [along])
                self.assert_close(slope, (mx.grad(function)(a) * along).sum(), 1e-9)

    def test_a_gradient_has_a_gradient(self):
        for name in ("solve", "inv", "cholesky", "slogdet", "eigvalsh", "qr, tall"):
            function, a = CASES[name]
            with self.subTest(name):
                second = lambda a: mx.square(mx.grad(function)(a)).sum()  # noqa: E731, B023
                self.assert_close(mx.grad(second)(a), by_differences(second, a), 1e-5)

    def test_vmap_is_the_function_of_each(self):
        for name, (function, a) in CASES.items():
            with self.subTest(name):
                many = mx.stack([a, a * 2, a + 0.1], 1)
                each = mx.stack([function(many[:, i]) for i in range(3)])
                self.assert_close(mx.vmap(function, in_axes=1)(many), each, 1e-9)
                narrow = many.astype(mx.float32)
                self.assert_close(mx.vmap(function, in_axes=1)(narrow).astype(mx.float64), each, 2e-3)
                grads = mx.stack([mx.grad(function)(many[:, i]) for i in range(3)])
                self.assert_close(mx.vmap(mx.grad(function), in_axes=1)(many), grads, 1e-9)

    def test_vmap_of_one_argument_keeps_the_other(self):
        a, b = numbers(4, 4), numbers(3, 4, 2, seed=1)
        self.assert_close(mx.vmap(la.solve, in_axes=(None, 0))(a, b), mx.stack([la.solve(a, x) for x in b]), 1e-12)
        self.assert_close(mx.vmap(la.solve, in_axes=(0, None))(mx.stack([a, a + 1]), b[0]),
                          mx.stack([la.solve(a, b[0]), la.solve(a + 1, b[0])]), 1e-12)

    def test_compiled_gradients_are_the_same(self):
        for name in ("qr, tall", "svd", "solve", "pinv"):
            function, a = CASES[name]
            a = a.astype(mx.float32)
            with self.subTest(name):
                self.assert_close(mx.compile(mx.grad(function))(a), mx.grad(function)(a), 1e-6)

    def test_those_without_one_say_why(self):
        for function, shape, why in (
                (lambda a: sums(*la.qr(a)), (3, 5), "qr has no gradient: a has fewer rows than columns"),
                (lambda a: sums(*la.qr(a, mode="complete")), (5, 3), "qr has no gradient: the columns of a complete Q"),
                (lambda a: sums(*la.lu(a)[1:]), (5, 3), "lu has no gradient: .* give square"),
                (lambda a: sums(la.svd(a)[0]), (5, 3), "svd has no gradient: .* use full_matrices=False")):
            with self.assertRaisesRegex(ValueError, why):
                mx.grad(function)(numbers(*shape))

    def test_equal_values_have_a_finite_gradient(self):
        a = mx.eye(4) * 2
        for function in (lambda a: la.svd(a, compute_uv=False).sum(), lambda a: la.eigvalsh(a).sum(),
                         lambda a: mx.square(la.svd(a)[0]).sum(), lambda a: mx.square(la.eigh(a)[1]).sum()):
            self.assertTrue(mx.isfinite(mx.grad(function)(a)).all().item())


if __name__ == "__main__":
    unittest.main()
