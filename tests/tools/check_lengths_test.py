"""check_lengths.py finds files and functions that are too long, and leaves kernels and lists of tests alone."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(os.environ["MLX_KD_SOURCE_DIR"]) / "tools" / "check_lengths.py"


def function(lines):
    return "namespace {\n\nint count(const int* many,\n          int more) {\n" + lines * "  ++more;  // {\n" + "}\n\n}  // namespace\n"


class CheckLengths(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="kd_lengths_"))
        self.addCleanup(shutil.rmtree, self.root)

    def check(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return subprocess.run([sys.executable, SCRIPT, self.root], capture_output=True, text=True)

    def test_what_is_short_enough_passes(self):
        result = self.check("mlx_kd/base/short.cpp", function(40))
        self.assertEqual((result.returncode, result.stdout), (0, "1 files and their functions are short enough\n"))

    def test_a_function_of_41_lines_is_named_with_its_line(self):
        result = self.check("mlx_kd/base/long.cpp", function(41))
        self.assertEqual(result.returncode, 1)
        self.assertIn("mlx_kd/base/long.cpp:3: the body of count has 41 lines", result.stdout)

    def test_a_file_of_401_lines_is_named(self):
        result = self.check("tests/base/long_test.cpp", 401 * "\n")
        self.assertEqual(result.returncode, 1)
        self.assertIn("tests/base/long_test.cpp: 401 lines", result.stdout)

    def test_kernels_and_tests_may_have_long_functions(self):
        for name in ("mlx_kd/kernels/norms/x.cpu.h", "mlx_kd/msl/prelude/x.h", "tests/base/x_test.cpp"):
            self.assertEqual(self.check(name, function(80)).returncode, 0, name)


if __name__ == "__main__":
    unittest.main()
