"""mlx_kd.linalg: results, failures, bad input, and that none of it runs on MLX's linear algebra."""
import unittest
from types import SimpleNamespace

from tests.support.linalg import Front, largest, numbers, positive, symmetric, transpose

import mlx.core as mx

import mlx_kd
import mlx_kd.linalg as la
from mlx_kd.linalg import calls

SHAPES = ((1, 1), (3, 3), (2, 5, 3), (2, 3, 5), (2, 2, 17, 17), (33, 20), (70, 70))
SQUARE = ((1, 1), (3, 3), (2, 2, 17, 17), (5, 16, 16), (40, 40))


class Results(Front):
    def test_qr(self):
        for shape in SHAPES:
            a, k = numbers(*shape), min(shape[-2:])
            q, r = la.qr(a)
            self.assertEqual((q.shape[-1], r.shape[-2]), (k, k))
            self.assert_near(q @ r, a)
            self.assert_orthonormal(q)
            self.assertEqual(largest(mx.tril(r, -1)), 0)
            q, r = la.qr(a, mode="complete")
            self.assertEqual((q.shape[-1], r.shape[-2]), (shape[-2],) * 2)
            self.assert_near(q @ r, a)
            self.assert_orthonormal(q)
            self.assert_near(mx.abs(la.qr(a, mode="r")), mx.abs(la.qr(a)[1]), 10)

    def test_cholesky_its_inverse_and_its_solve(self):
        for shape in SQUARE:
            a, b = positive(*shape), numbers(*shape[:-1], 2, seed=1)
            size = la.cond(a).max().item()
            for upper in (False, True):
                factor = la.cholesky(a, upper=upper)
                self.assert_near(transpose(factor) @ factor if upper else factor @ transpose(factor), a)
                self.assertEqual(largest(mx.tril(factor, -1) if upper else mx.triu(factor, 1)), 0)
                self.assert_near(la.cholesky_inv(factor, upper=upper) @ a, mx.broadcast_to(mx.eye(shape[-1]), shape), size)
                self.assert_near(a @ la.cholesky_solve(b, factor, upper=upper), b, size)

    def test_lu(self):
        for shape in SHAPES:
            a = numbers(*shape)
            p, lower, upper = la.lu(a)
            self.assert_near(mx.take_along_axis(lower, p[..., None], -2) @ upper, a)
            packed, pivots = la.lu_factor(a)
            self.assertEqual((packed.shape, pivots.shape), (a.shape, (*shape[:-2], min(shape[-2:]))))
            self.assert_near(mx.triu(packed)[..., :min(shape[-2:]), :], upper)

    def test_a_singular_matrix_has_an_lu(self):
        a = mx.array([[1.0, 2, 3, 4], [2, 4, 6, 8], [0, 1, 1, 0], [1, 0, 0, 1]])
        for each in (a, mx.zeros((4, 4)), a[:, :3]):
            p, lower, upper, info = la.lu(each, return_info=True)
            self.assert_near(lower[p, :] @ upper, each)
            self.assertEqual(info.item(), 0)

    def test_solve_and_inverses(self):
        for shape in SQUARE:
            a = numbers(*shape)
            identity, size = mx.broadcast_to(mx.eye(shape[-1]), shape), la.cond(a).max().item()
            self.assert_near(a @ la.inv(a), identity, size)
            b = numbers(*shape[:-1], 3, seed=1)
            self.assert_near(a @ la.solve(a, b), b, size)
            for upper in (False, True):
                part = (mx.triu(a, 1) if upper else mx.tril(a, -1)) * 0.1 + mx.eye(shape[-1])
                self.assert_near(part @ la.tri_inv(part, upper=upper), identity, 10)
                self.assert_near(part @ la.solve_triangular(part, b, upper=upper), b, 10)

    def test_a_vector_and_leading_axes_that_broadcast(self):
        a = numbers(3, 1, 4, 4)
        self.assertEqual(la.solve(a, numbers(4)).shape, (3, 1, 4))
        self.assertEqual(la.solve(a, numbers(2, 4, 5)).shape, (3, 2, 4, 5))
        self.assert_near(la.solve(a[0, 0], numbers(4)), la.inv(a[0, 0]) @ numbers(4), 100)

    def test_determinants(self):
        a = mx.array([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [1.0, 0.0]], [[1.0, 2.0], [2.0, 4.0]]])
        self.assertLess(largest(la.det(a) - mx.array([-2.0, -1.0, 0.0])), 1e-5)
        sign, logarithm = la.slogdet(a)
        self.assertEqual(sign.tolist(), [-1, -1, 0])
        self.assertEqual(logarithm[2].item(), float("-inf"))
        sign, logarithm = la.slogdet(0.1 * mx.eye(100))
        self.assertAlmostEqual(logarithm.item(), -230.2585, 2)
        self.assertEqual(la.det(mx.array([[1, 2], [3, 4]])).dtype, mx.float32)

    def test_svd(self):
        for shape in SHAPES:
            a, k = numbers(*shape), min(shape[-2:])
            u, s, vt = la.svd(a)
            self.assertEqual((u.shape[-1], s.shape[-1], vt.shape[-2]), (shape[-2], k, shape[-1]))
            self.assert_near((u[..., :k] * s[..., None, :]) @ vt[..., :k, :], a)
            self.assert_orthonormal(u)
            self.assert_orthonormal(transpose(vt))
            self.assertTrue(((s[..., 1:] <= s[..., :-1]).all() & (s >= 0).all()).item())
            self.assert_near(la.svd(a, compute_uv=False), s)
            u, _, vt = la.svd(a, full_matrices=False)
            self.assertEqual((u.shape[-1], vt.shape[-2]), (k, k))

    def test_eigh(self):
        for shape in SQUARE:
            a = symmetric(*shape)
            for uplo in ("L", "U"):
                other = mx.triu(a) if uplo == "U" else mx.tril(a)
                w, v = la.eigh(other, uplo)
                self.assert_near(a @ v, v * w[..., None, :])
                self.assert_orthonormal(v)
                self.assertTrue((w[..., 1:] >= w[..., :-1]).all().item())
                self.assert_near(la.eigvalsh(other, uplo), w)

    def test_ranks_pseudo_inverses_and_least_squares(self):
        a = numbers(2, 6, 3) @ numbers(2, 3, 5, seed=1)
        self.assertEqual(la.matrix_rank(a).tolist(), [3, 3])
        self.assertEqual(la.matrix_rank(a, tol=1e9).tolist(), [0, 0])
        x = la.pinv(a)
        for got, wanted in ((a @ x @ a, a), (x @ a @ x, x), (transpose(a @ x), a @ x), (transpose(x @ a), x @ a)):
            self.assert_near(got, wanted, 100)
        b = numbers(2, 6, 2, seed=2)
        self.assert_near(la.lstsq(a, b), x @ b, 100)
        self.assertEqual(la.lstsq(a, numbers(6)).shape, (2, 5))
        self.assertAlmostEqual(la.cond(mx.diag(mx.array([4.0, 2.0]))).item(), 2, 5)
        self.assertAlmostEqual(la.cond(mx.diag(mx.array([4.0, 2.0])), -2).item(), 0.5, 5)
        self.assertAlmostEqual(la.cond(mx.diag(mx.array([4.0, 2.0])), 1).item(), 2, 5)

    def test_norms(self):
        a = numbers(2, 3, 4)
        s = la.svd(a, compute_uv=False)
        for order, wanted in ((2, s.max(-1)), (-2, s.min(-1)), ("nuc", s.sum(-1))):
            self.assert_near(la.norm(a, order, (-2, -1)), wanted)
            self.assertEqual(la.norm(a, order, (0, 2), keepdims=True).shape, (1, 3, 1))
        self.assert_near(la.norm(a), mx.sqrt(mx.square(a).sum()))
        self.assert_near(la.norm(a, 1, -1), mx.abs(a).sum(-1))

    def test_orthogonal_matrices(self):
        for shape in ((2, 6, 4), (3, 3)):
            a = numbers(*shape)
            by_qr, by_gram_schmidt = la.orthogonalise(a), la.orthogonalise(a, "gram_schmidt")
            self.assert_orthonormal(by_qr)
            self.assert_near(by_gram_schmidt, by_qr, 30)
        q = la.random_orthogonal((2, 3, 5), key=mx.random.key(1))
        self.assert_orthonormal(transpose(q))
        self.assertEqual(largest(q - la.random_orthogonal((2, 3, 5), key=mx.random.key(1))), 0)

    def test_newton_schulz_brings_singular_values_near_one(self):
        for shape in ((20, 20), (2, 30, 10), (10, 30)):
            a = numbers(*shape)
            s = la.svd(la.newton_schulz(a, 10), compute_uv=False)
            kept = la.svd(a, compute_uv=False) > 0.002 * la.norm(a, axis=(-2, -1))[..., None]
            self.assertTrue((mx.where(kept, (s > 0.6) & (s < 1.3), True)).all().item())

    def test_products_of_twice_the_precision(self):
        a, b = numbers(2, 5, 300), numbers(300, 7, seed=1) * 1000
        hi, lo = la.matmul_dd(a, b)
        exact = a.astype(mx.float64) @ b.astype(mx.float64)
        sizes = mx.abs(a).astype(mx.float64) @ mx.abs(b).astype(mx.float64)
        rest = mx.abs(hi.astype(mx.float64) + lo.astype(mx.float64) - exact)
        self.assertTrue((rest <= 3 * 302 * 2.0 ** -48 * sizes).all().item())
        self.assertGreater(largest(lo), 0)
        gradient = mx.grad(lambda a: la.matmul_dd(a, b)[0].sum())(a)
        self.assert_near(gradient, mx.broadcast_to(b.sum(-1), (2, 5, 300)))
        self.assertEqual([x.shape for x in la.matmul_dd(mx.zeros((2, 0)), mx.zeros((0, 3)))], [(2, 3)] * 2)

    def test_other_types(self):
        a = positive(2, 4, 4)
        for dtype in (mx.float16, mx.bfloat16, mx.float64):
            self.assertEqual({x.dtype for x in la.svd(a.astype(dtype))}, {dtype})
            self.assertEqual(la.solve(a.astype(dtype), a.astype(dtype)).dtype, dtype)
        complex_a = a.astype(mx.complex64)
        self.assertEqual([x.dtype for x in la.svd(complex_a)], [mx.complex64, mx.float32, mx.complex64])
        self.assertEqual(la.eigh(complex_a)[0].dtype, mx.float32)
        self.assert_near(mx.sort(la.eigvals(a).real, -1), la.eigvalsh(a), 100)
        w, v = la.eig(a)
        self.assertLess(mx.abs(a.astype(mx.complex64) @ v - v * w[:, None, :]).max().item(), 1e-4)
        self.assertEqual(la.cross(mx.array([1.0, 0, 0]), mx.array([0, 1.0, 0])).tolist(), [0, 0, 1])

    def test_float64_is_computed_in_float64(self):
        a = positive(3, 20, 20).astype(mx.float64)
        q, r = la.qr(a)
        lower = la.cholesky(a)
        w, v = la.eigh(a)
        for made in (q @ r, lower @ mx.swapaxes(lower, -1, -2), (v * w[:, None, :]) @ mx.swapaxes(v, -1, -2)):
            self.assertLess(mx.abs(made - a).max().item(), 1e-13 * mx.abs(a).max().item() * 20)
        self.assertLess(mx.abs(a @ la.inv(a) - mx.eye(20, dtype=mx.float64)).max().item(), 1e-12)
        self.assertEqual(la.slogdet(a)[1].dtype, mx.float64)
        for low in (a[0, :12], a[0, :, :3] @ mx.swapaxes(a[1, :, :3], 0, 1)):  # wide; of rank 3
            u, s, vt = la.svd(low, full_matrices=False)
            exact = mx.linalg.svd(low, False, stream=mx.cpu)
            most = 1e-14 * exact[0].item()
            self.assertLess(mx.abs((u * s) @ vt - low).max().item(), most)
            for values in (s, la.svd(low, False)):
                self.assertLess(mx.abs(values - exact).max().item(), most)
        self.assertLess(mx.abs(a @ la.pinv(a) @ a - a).max().item(), 1e-11)
        with self.assertRaisesRegex(ValueError, "a has type float64: give float32"):
            mlx_kd.call("matmul_dd", [a, a])

    def test_arrays_without_elements(self):
        for shape in ((0, 4, 4), (3, 0, 0), (0, 0)):
            a, rows = mx.zeros(shape), shape[:-1]
            self.assertEqual([x.shape for x in la.qr(a)], [shape, shape])
            self.assertEqual([x.shape for x in la.svd(a)], [shape, rows, shape])
            self.assertEqual([x.shape for x in la.eigh(a)], [rows, shape])
            self.assertEqual([x.shape for x in la.lu(a)], [rows, shape, shape])
            for function in (la.cholesky, la.inv, la.pinv, la.tri_inv, la.cholesky_inv):
                self.assertEqual(function(a).shape, shape)
            self.assertEqual(la.det(a).tolist(), mx.ones(shape[:-2]).tolist())
            self.assertEqual(la.solve(a, a).shape, shape)
        self.assertEqual(la.pinv(mx.zeros((2, 0, 3))).shape, (2, 3, 0))
        self.assertEqual(la.lstsq(mx.zeros((0, 3)), mx.zeros((0, 2))).shape, (3, 2))
        self.assertEqual(la.matrix_rank(mx.zeros((2, 0, 3))).tolist(), [0, 0])

    def test_any_layout(self):
        a = numbers(4, 6, 5)
        for each in (transpose(a), a[:, ::2], a[::-1], mx.broadcast_to(a[0], (3, 6, 5))):
            copy = mx.contiguous(each)
            for got, wanted in zip(la.svd(each), la.svd(copy)):
                self.assertEqual(largest(got - wanted), 0)

    def test_a_stream_of_its_own(self):
        a = numbers(3, 4, 4)
        with_stream = la.svd(a, compute_uv=False, stream=mx.new_stream(mx.cpu))
        self.assertEqual(largest(with_stream - la.svd(a, compute_uv=False)), 0)


class Failures(Front):
    def assert_fails_alone(self, function, good, bad, codes=True):
        """Of [good, bad, good] the second gives NaN and info, the others what they give alone."""
        *found, info = self.results(function(mx.stack([good, bad, good]), return_info=True))
        wanted = self.results(function(good))
        self.assertEqual([bool(i) for i in info.tolist()], [False, True, False])
        for got, want in zip(found, wanted):
            if got.dtype == mx.float32:
                self.assertTrue(mx.isnan(got[1]).all().item())
            for i in (0, 2):
                self.assertLessEqual(largest(got[i] - want), 1e-4)
        with self.assertRaisesRegex(ValueError, r"1 of 3 matrices failed, at 1: correct"):
            function(mx.stack([good, bad, good]), check=True)
        function(mx.stack([good, good]), check=True)

    @staticmethod
    def results(found):
        return list(found) if isinstance(found, tuple) else [found]

    def test_a_matrix_that_fails_gives_nan_alone(self):
        good, nan = positive(5, 5), mx.full((5, 5), float("nan"))
        singular = mx.zeros((5, 5))
        for function, bad in (
                (la.svd, nan), (la.eigh, nan), (la.eigvalsh, nan), (la.qr, nan), (la.cholesky, -good), (la.cholesky, nan),
                (la.inv, singular), (la.inv, nan), (la.tri_inv, singular), (la.cholesky_inv, singular), (la.pinv, nan),
                (lambda a, **o: la.solve(a, mx.ones((5, 2)), **o), singular),
                (lambda a, **o: la.solve_triangular(a, mx.ones((5, 2)), **o), singular),
                (lambda a, **o: la.lstsq(a, mx.ones((5, 2)), **o), nan)):
            self.assert_fails_alone(function, good, bad)

    def test_so_does_one_that_mlx_would_compute(self):
        good, nan = positive(5, 5).astype(mx.float64), mx.full((5, 5), float("nan"), mx.float64)
        for function, bad in ((la.svd, nan), (la.eigh, nan), (la.cholesky, -good), (la.inv, mx.zeros_like(good)),
                              (lambda a, **o: la.solve(a, mx.ones((5, 2), mx.float64), **o), mx.zeros_like(good))):
            self.assert_fails_alone(function, good, bad)

    def test_infinities_fail(self):
        a = mx.eye(4)
        a[1, 2] = a[2, 1] = float("inf")
        for function in (la.svd, la.eigh, la.qr):
            self.assertNotEqual(function(a, return_info=True)[-1].item(), 0)

    def test_a_check_is_refused_in_a_trace(self):
        for traced in (mx.compile(lambda a: la.inv(a, check=True)), mx.grad(lambda a: la.inv(a, check=True).sum()),
                       mx.vmap(lambda a: la.inv(a, check=True))):
            with self.assertRaisesRegex(ValueError, r"\[linalg\] inv: check=True looks at values"):
                traced(mx.eye(3)[None])

    def test_places_of_several_axes(self):
        a = mx.broadcast_to(mx.eye(2), (2, 3, 2, 2)) * mx.array([[1, 1, 0], [1, 1, 1]])[..., None, None]
        with self.assertRaisesRegex(ValueError, r"1 of 6 matrices failed, at \(0, 2\)"):
            la.inv(a, check=True)


class BadInput(Front):
    def test_errors_say_what_to_do(self):
        flat, wide, square = mx.zeros((3,)), mx.zeros((2, 3)), mx.eye(3)
        for message, call in (
                (r"qr: a has shape \(3,\): give at least two axes", lambda: la.qr(flat)),
                (r"inv: a has shape \(2, 3\): give square", lambda: la.inv(wide)),
                (r"eigh: a has shape \(2, 3\): give square", lambda: la.eigh(wide)),
                (r"svd: a has type int32: give a floating-point type", lambda: la.svd(mx.zeros((2, 2), mx.int32))),
                (r"cholesky: a has type complex64: give a real", lambda: la.cholesky(square.astype(mx.complex64))),
                (r"eigh: UPLO is 'X': give 'L' or 'U'", lambda: la.eigh(square, "X")),
                (r"qr: mode is 'full': give 'reduced'", lambda: la.qr(square, mode="full")),
                (r"solve: a has shape \(3, 3\) and b \(4,\): give as many rows", lambda: la.solve(square, mx.zeros((4,)))),
                (r"solve: the leading axes \(2,\) of a and \(3,\) of b do not broadcast: give the same",
                 lambda: la.solve(mx.zeros((2, 3, 3)), mx.zeros((3, 3, 1)))),
                (r"lstsq: a has shape \(2, 3\) and b \(3, 1\): give as many", lambda: la.lstsq(wide, mx.zeros((3, 1)))),
                (r"norm: axis is \(0, 5\) and a has 2 axes", lambda: la.norm(square, 2, (0, 5))),
                (r"orthogonalise: a has shape \(2, 3\): give at least as many rows", lambda: la.orthogonalise(wide)),
                (r"orthogonalise: method is 'x': give 'qr'", lambda: la.orthogonalise(square, "x")),
                (r"random_orthogonal: shape is \(3,\): give", lambda: la.random_orthogonal((3,))),
                (r"newton_schulz: steps is -1", lambda: la.newton_schulz(square, -1)),
                (r"cond: a has shape \(0, 0\): give matrices with", lambda: la.cond(mx.zeros((0, 0))))):
            with self.assertRaisesRegex(ValueError, r"^\[linalg\] " + message):
                call()
        with self.assertRaises(TypeError):
            la.qr(square, no_such=True)


def refused(*_, **__):
    raise AssertionError("MLX's linear algebra ran")


class OnKernels(Front):
    def test_nothing_of_one_precision_runs_on_mlx(self):
        for name in vars(calls.MLX):
            self.addCleanup(setattr, calls.MLX, name, getattr(calls.MLX, name))
            if name not in ("norm", "cross", "eig", "eigvals"):
                setattr(calls.MLX, name, refused)
        a, b = positive(2, 6, 6), numbers(2, 6, 3)
        for function in (la.qr, la.cholesky, la.cholesky_inv, la.lu, la.lu_factor, la.inv, la.tri_inv, la.det,
                         la.slogdet, la.svd, la.eigh, la.eigvalsh, la.pinv, la.matrix_rank, la.cond, la.orthogonalise,
                         lambda a: la.norm(a, 2, (-2, -1)), lambda a: la.svd(a, False), lambda a: la.solve(a, b),
                         lambda a: la.solve_triangular(a, b), lambda a: la.cholesky_solve(b, a),
                         lambda a: la.lstsq(a, b), lambda a: la.qr(a, mode="complete"), lambda a: la.qr(a, mode="r")):
            mx.eval(function(a))

    def test_larger_ones_and_complex_ones_do(self):
        self.addCleanup(setattr, calls, "MLX", calls.MLX)
        calls.MLX = SimpleNamespace(**{name: refused for name in vars(calls.MLX)})
        for call in (lambda: la.eigh(mx.eye(520)), lambda: la.svd(mx.eye(3).astype(mx.complex64))):
            with self.assertRaisesRegex(AssertionError, "MLX's linear algebra ran"):
                call()


if __name__ == "__main__":
    unittest.main()
