"""mlx_kd.linalg in the place of mx.linalg: put there and taken back, with MLX's exceptions."""
import unittest

from tests.support.linalg import Front
from tests.support.package import python

import mlx.core as mx

import mlx_kd.linalg as la


class Enabled(Front):
    def test_it_replaces_and_gives_back(self):
        before = {name: getattr(mx.linalg, name) for name in dir(mx.linalg)}
        with la.enable() as handle:
            self.assertIs(mx.linalg.qr, la.qr)
            second = la.enable()
            handle.disable()
            handle.disable()
            self.assertIs(mx.linalg.qr, la.qr)
            second.disable()
        self.assertEqual(before, {name: getattr(mx.linalg, name) for name in dir(mx.linalg)})

    def test_exceptions_of_mlx_stay(self):
        bad, nan = mx.zeros((2, 3, 3)), mx.full((3, 3), float("nan"))
        calls_of_it = (lambda: mx.linalg.inv(bad), lambda: mx.linalg.solve(bad, mx.ones((3, 1))),
                       lambda: mx.linalg.svd(nan), lambda: mx.linalg.svd(nan, False))
        with la.enable():
            for call in calls_of_it:
                with self.assertRaisesRegex(RuntimeError, r"\[(Inverse|SVD)::eval_cpu\] .*failed"):
                    mx.eval(call())
            self.assertTrue(mx.isnan(mx.linalg.eigh(nan)[0]).all().item())
            self.assertTrue(mx.isnan(mx.linalg.inv(bad, return_info=True)[0]).all().item())
            self.assert_near(mx.linalg.inv(mx.eye(3) * 2), mx.eye(3) / 2)
            gradient = mx.grad(lambda a: mx.linalg.inv(a).sum())(mx.eye(3) * 2)
            self.assert_near(gradient, mx.full((3, 3), -0.25))
            self.assert_near(mx.vmap(mx.linalg.inv)(mx.stack([mx.eye(3) * 2] * 2)), mx.stack([mx.eye(3) / 2] * 2))

    def test_importing_it_leaves_mlx_alone(self):
        self.assert_succeeds(python("import mlx.core as mx; f = mx.linalg.qr; import mlx_kd.linalg; assert mx.linalg.qr is f"))


if __name__ == "__main__":
    unittest.main()
