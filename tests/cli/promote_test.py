"""kd promote: what it refuses before and at the start of Python. (What Python does: tests/python/promotion_test.py.)"""
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

KD = os.environ["MLX_KD_PROGRAM"]


class Promote(unittest.TestCase):
    def promote(self, *options, code, **variables):
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        result = subprocess.run([KD, "promote", "--model", "PATH", *options], capture_output=True, text=True, timeout=60,
                                env={**environment, **variables})
        self.assertEqual(result.returncode, code, result.stderr)
        return result.stderr

    def test_the_pins_are_given_once(self):
        for options in ((), ("--run", "a", "--pack", "b")):
            self.assertIn("one of --run", self.promote(*options, code=2))

    def test_a_time_that_is_none(self):
        self.assertIn("--time-budget 'soon' is not a duration",
                      self.promote("--pack", "b", "--time-budget", "soon", code=2))

    def test_a_python_without_the_package_is_named_with_what_to_do(self):
        with tempfile.TemporaryDirectory() as folder:
            bare = Path(folder) / "python"
            bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I "$@"\n')  # sees no mlx_kd of this tree
            bare.chmod(0o755)
            message = self.promote("--pack", "b", code=1, MLX_KD_PYTHON=str(bare))
        self.assertIn("cannot import mlx_kd", message)
        self.assertIn("MLX_KD_PYTHON=", message)

    def test_a_python_that_is_not_there(self):
        message = self.promote("--pack", "b", code=1, MLX_KD_PYTHON="/none/python")
        self.assertIn("[cli] the Python '/none/python' cannot be started", message)


if __name__ == "__main__":
    unittest.main()
