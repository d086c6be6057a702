"""MLX's own tests of linear algebra, with enable() (long; or MLX_KD_MLX_LINALG_TESTS=FILE).

FILE is python/tests/test_linalg.py of MLX's source in the version of requirements.txt. Without it git fetches that
version's into a folder of the build.
"""
import importlib.util
import os
import sys
import types
import unittest

from tests.support.on_demand import need
from tests.support.package import LONG, PackageTest

FILE = os.environ.get("MLX_KD_MLX_LINALG_TESTS", "")
if not FILE and not LONG:
    print("skipped: MLX's own tests of linear algebra are long (./kd test --long)")
    sys.exit(77)

need("numpy")

import mlx.core as mx  # noqa: E402

import mlx_kd.linalg as la  # noqa: E402
from tests.support.mlx_source import fetched  # noqa: E402  (it imports MLX)

MEMBER = "python/tests/test_linalg.py"


def tests_of(file):
    """Their base class only sets the device."""
    base = types.ModuleType("mlx_tests")
    base.MLXTestCase, base.MLXTestRunner = unittest.TestCase, unittest.main
    sys.modules["mlx_tests"] = base
    spec = importlib.util.spec_from_file_location("mlx_test_linalg", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return unittest.defaultTestLoader.loadTestsFromModule(module)


TESTS = tests_of(FILE or fetched(MEMBER))


class OfMlx(PackageTest):
    def test_they_pass(self):
        before = mx.default_device()
        self.addCleanup(mx.set_default_device, before)
        mx.set_default_device(mx.cpu)
        result = unittest.TestResult()
        with la.enable():
            TESTS.run(result)
        self.assertGreater(result.testsRun, 10)
        self.assertEqual([(str(test), text) for test, text in result.failures + result.errors], [])


if __name__ == "__main__":
    unittest.main()
