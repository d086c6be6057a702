"""single_callers.py counts the file-local functions that are called once, with Universal Ctags and without."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(os.environ["MLX_KD_SOURCE_DIR"]) / "tools" / "single_callers.py"
SOURCE = """#include <string>

namespace mlx_kd::search {
namespace {

int once(int x) {
  return x + 1;
}

// once(1) in a comment, and in a text: no call.
const char* const kText = "once(1) twice(2)";

std::string twice(const std::string& text) {
  return text;
}

struct Local {
  int member() const { return 1; }
};

}  // namespace

int shown() {
  return once(1) + Local{}.member() + static_cast<int>(twice("a").size() + twice("b").size());
}

}  // namespace mlx_kd::search
"""


class SingleCallers(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="kd_callers_"))
        self.addCleanup(shutil.rmtree, self.root)
        (self.root / "mlx_kd" / "search").mkdir(parents=True)
        (self.root / "mlx_kd" / "search" / "a.cpp").write_text(SOURCE)

    def call(self, *arguments, path=None):
        environment = dict(os.environ, **({"PATH": path} if path else {}))
        return subprocess.run([sys.executable, SCRIPT, *arguments, self.root], capture_output=True, text=True, env=environment)

    def check(self, path):
        result = self.call("--list", path=path)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout.splitlines(), [
            "mlx_kd/search/a.cpp:6: once, 3 lines",
            "exactly one caller: 1 functions, 33.3 % of 3 file-local functions, 25.0 % of all 4"])

    def test_counts_by_pattern(self):
        self.check("/nonexistent")

    def test_counts_by_ctags(self):
        version = shutil.which("ctags") and subprocess.run(["ctags", "--version"], capture_output=True, text=True).stdout
        if "Universal Ctags" not in (version or ""):
            self.skipTest("Universal Ctags is not installed")
        self.check(None)

    def test_kernel_sources_are_left_out(self):
        (self.root / "mlx_kd" / "search" / "a.cpp").rename(self.root / "mlx_kd" / "search" / "a.cpu.cpp")
        self.assertEqual(self.call().returncode, 1)


if __name__ == "__main__":
    unittest.main()
