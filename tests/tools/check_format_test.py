"""check_format.py tells tidy C++ from untidy, where clang-format 14 is installed."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(os.environ["MLX_KD_SOURCE_DIR"])
SCRIPT = SOURCE / "tools" / "check_format.py"


class CheckFormat(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="kd_format_"))
        self.addCleanup(shutil.rmtree, self.root)
        shutil.copy(SOURCE / ".clang-format", self.root)
        (self.root / "mlx_kd").mkdir()

    def check(self, text, *options, **environment):
        (self.root / "mlx_kd" / "a.cpp").write_text(text)
        return subprocess.run([sys.executable, SCRIPT, *options, self.root], capture_output=True, text=True,
                              env={**os.environ, **environment}).returncode

    def test_tells_tidy_from_untidy(self):
        tidy = self.check("int x = 0;\n")
        if tidy == 77:
            self.skipTest("clang-format 14 is not installed")
        self.assertEqual(tidy, 0)
        self.assertEqual(self.check("int  x=0 ;\n"), 1)

    def test_fixes_on_request(self):
        fixed = self.check("int  x=0 ;\n", "--fix")
        if fixed == 77:
            self.skipTest("clang-format 14 is not installed")
        self.assertEqual(fixed, 0)
        self.assertEqual((self.root / "mlx_kd" / "a.cpp").read_text(), "int x = 0;\n")

    def test_skips_without_clang_format(self):
        self.assertEqual(self.check("int  x;\n", PATH="/nonexistent"), 77)


if __name__ == "__main__":
    unittest.main()
