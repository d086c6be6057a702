"""The base of tests of mlx_kd.patch: operators are stand-ins, and their speed does not count."""
import contextlib
import io
from unittest import mock

import mlx.core as mx

import mlx_kd
from mlx_kd.patching import proof
from tests.support import mlx_lm_models as models
from tests.support.package import PackageTest
from tests.support.stand_ins import ALL, stand_ins

NAMES = [function.__name__ for function in ALL]


def quiet(function, *arguments, **options):
    with contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments, **options)


class Patching(PackageTest):
    def setUp(self):
        context = contextlib.ExitStack()
        self.addCleanup(context.close)
        self.calls = context.enter_context(stand_ins())
        context.enter_context(mock.patch.object(proof, "speed_up", lambda *_: 2.0))
        self.addCleanup(mlx_kd.reset_settings)

    def patch(self, model, **options):
        self.addCleanup(mlx_kd.unpatch, model)
        return quiet(mlx_kd.patch, model, **{"ops": NAMES, **options})

    def reason(self, report, path):
        return next((one.why for one in report.left if one.path == path), None)

    def assert_near(self, one, other, tolerance=1e-4):
        self.assertLess(mx.max(mx.abs(one - other)).item(), tolerance)

    def assert_runs(self, model, expected=True):
        """Whether a decode step runs the fused operators."""
        self.calls.clear()
        models.decode(model)
        self.assertEqual(self.calls["qmatvec_qkv"] + self.calls["matvec_qkv"] > 0, expected, self.calls)
