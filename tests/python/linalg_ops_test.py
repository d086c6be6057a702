"""The operators on batches of matrices from Python, against NumPy: strides, broadcasts, failures, bad input."""
import unittest

from tests.support.package import PackageTest
from tests.support import on_demand

on_demand.need("numpy")

import numpy as np

import mlx.core as mx

import mlx_kd

EPS = 2.0 ** -24
EACH = ("lu", "solve", "inv", "slogdet", "solve_triangular", "tri_inv", "cholesky_inv", "cholesky_solve")


def norm(a):
    return np.abs(a).sum(-2).max(-1) if a.size else np.zeros(a.shape[:-2])


def matrices(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def call(op, a, **numbers):
    sides = [mx.ones((*a.shape[:-1], 1))] if "solve" in op else []
    return getattr(mlx_kd, op)(a, *sides, **numbers)


def numpy64(x):
    return np.array(x).astype(np.float64)


class AgainstNumpy(PackageTest):
    def small(self, ratio):
        self.assertTrue((ratio < 30).all(), ratio)

    def test_qr_of_each_mode_and_shape(self):
        for shape in ((2, 3, 5, 4), (4, 9), (3, 17, 40), (2, 1, 1)):
            a = matrices(*shape)
            for mode in (0, 1, 2):
                q, r, info = mlx_kd.qr(mx.array(a), mode=mode)
                self.assertFalse(np.array(info).any())
                m, n = shape[-2:]
                k = m if mode == 1 else min(m, n)
                self.assertEqual((q.shape[-2:], r.shape[-2:]), ((m, 0 if mode == 2 else k), (k, n)))
                self.assertEqual(info.shape, shape[:-2])
                q, r = numpy64(q), numpy64(r)
                if mode == 2:
                    self.small(norm(r.swapaxes(-1, -2) @ r - a.swapaxes(-1, -2) @ a.astype(float)) /
                               (n * norm(a) ** 2 * EPS))
                else:
                    self.small(norm(a - q @ r) / (max(m, n) * norm(a) * EPS))
                    self.small(norm(np.eye(k) - q.swapaxes(-1, -2) @ q) / (m * EPS))

    def test_lu_gives_pivots_and_permutation(self):
        a = matrices(3, 20, 20)
        lu, pivots, permutation, info = mlx_kd.lu(mx.array(a))
        x, order = numpy64(lu), np.array(permutation)
        moved = np.take_along_axis(a, order[..., None], -2)
        product = (np.tril(x, -1) + np.eye(20)) @ np.triu(x)
        self.small(norm(moved - product) / (20 * norm(a) * EPS))
        theirs, their_pivots = mx.linalg.lu_factor(mx.array(a), stream=mx.cpu)
        self.assertTrue(mx.array_equal(pivots, their_pivots).item())
        self.assertTrue(mx.allclose(lu, theirs, atol=1e-4).item())
        self.assertFalse(np.array(info).any())

    def test_solve_inv_and_slogdet(self):
        a, b = matrices(2, 3, 33, 33), matrices(2, 3, 33, 5, seed=1)
        x = numpy64(mlx_kd.solve(mx.array(a), mx.array(b))[0])
        self.small(norm(a @ x - b) / (norm(a) * norm(x) * EPS))
        y = numpy64(mlx_kd.inv(mx.array(a))[0])
        self.small(norm(np.eye(33) - a @ y) / (33 * norm(a) * norm(y) * EPS))
        sign, log, _ = mlx_kd.slogdet(mx.array(a))
        sign64, log64 = np.linalg.slogdet(a.astype(float))
        self.assertTrue((np.array(sign) == sign64).all())
        self.assertTrue(np.allclose(np.array(log), log64, rtol=1e-4))

    def test_triangles(self):
        a = matrices(4, 19, 19) / 19 + 2 * np.eye(19, dtype=np.float32)
        b = matrices(4, 19, 3, seed=2)
        for upper in (0, 1):
            t = (np.triu if upper else np.tril)(a).astype(float)
            for transposed in (0, 1):
                for unit in (0, 1):
                    used = t.copy()
                    if unit:
                        used[:, range(19), range(19)] = 1
                    used = used.swapaxes(-1, -2) if transposed else used
                    x = mlx_kd.solve_triangular(mx.array(a), mx.array(b), upper=upper, transposed=transposed, unit=unit)
                    self.small(norm(used @ numpy64(x[0]) - b) / (norm(used) * norm(numpy64(x[0])) * EPS))
            whole = t.swapaxes(-1, -2) @ t if upper else t @ t.swapaxes(-1, -2)
            for op, of in (("tri_inv", t), ("cholesky_inv", whole)):
                x = numpy64(getattr(mlx_kd, op)(mx.array(a), upper=upper)[0])
                self.small(norm(np.eye(19) - of @ x) / (19 * norm(of) * norm(x) * EPS))
            x = numpy64(mlx_kd.cholesky_solve(mx.array(a), mx.array(b), upper=upper)[0])
            self.small(norm(whole @ x - b) / (norm(whole) * norm(x) * EPS))


class Inputs(PackageTest):
    def test_strided_and_broadcast_inputs_are_as_their_copies(self):
        whole = mx.array(matrices(6, 12, 12)) / 12 + mx.eye(12)
        for a in (mx.swapaxes(whole, -1, -2), whole[::2, 1:, :11], mx.broadcast_to(whole[0], (3, 12, 12))):
            copy = mx.array(np.array(a))
            for op in ("qr", *EACH):
                for ours, wanted in zip(call(op, a), call(op, copy)):
                    self.assertTrue(mx.array_equal(ours, wanted).item(), op)

    def test_an_empty_batch_gives_empty_results(self):
        for op in ("qr", *EACH):
            for result in call(op, mx.zeros((0, 4, 4))):
                self.assertEqual(result.shape[0], 0)

    def test_one_failed_matrix_leaves_the_others(self):
        a = matrices(5, 8, 8) / 8 + np.eye(8, dtype=np.float32)
        spoilt = a.copy()
        spoilt[1, 3, 3] = np.nan
        spoilt[3] = np.diag([1, 1, 0, 1, 1, 1, 1, 1])
        for op in EACH:
            ours, right = call(op, mx.array(spoilt)), call(op, mx.array(a))
            info = np.array(ours[-1])
            self.assertEqual((info[[0, 2, 4]].tolist(), int(info[3])), ([0, 0, 0], 0 if op == "lu" else 3), op)
            self.assertGreater(info[1], 0)
            for i in (0, 2, 4):
                self.assertTrue(mx.array_equal(ours[0][i], right[0][i]).item(), op)
            self.assertTrue(np.isnan(np.array(ours[0][1])).all(), op)
            failed = np.array(ours[0][3])
            wanted = failed == 0 if op == "slogdet" else failed[2, 2] == 0 if op == "lu" else np.isnan(failed).all()
            self.assertTrue(wanted, op)
        q, r, info = mlx_kd.qr(mx.array(spoilt))
        self.assertEqual(np.array(info).tolist(), [0, 4, 0, 0, 0])
        self.assertTrue(np.isnan(np.array(q[1])).all() and np.isnan(np.array(r[1])).all())

    def test_bad_input_is_refused_with_what_is_wrong(self):
        for op in EACH:
            if op != "lu":
                with self.assertRaisesRegex(ValueError, rf"\[{op}\].*3, 4"):
                    call(op, mx.zeros((3, 4)))
            with self.assertRaisesRegex(ValueError, rf"\[{op}\].*int32"):
                call(op, mx.zeros((3, 3), mx.int32))
        with self.assertRaisesRegex(ValueError, r"\[solve\]"):
            mlx_kd.solve(mx.zeros((2, 3, 3)), mx.zeros((2, 4, 1)))
        with self.assertRaisesRegex(ValueError, r"mode is 3: give 0 \(reduced\), 1 \(complete\) or 2"):
            mlx_kd.qr(mx.zeros((3, 3)), mode=3)
        with self.assertRaisesRegex(ValueError, "upper is 2: give 0 or 1"):
            mlx_kd.tri_inv(mx.zeros((3, 3)), upper=2)


if __name__ == "__main__":
    unittest.main()
