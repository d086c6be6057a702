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

bool is_even(int x) {
  return x % 2 == 0;
}

int either(int x) {
  if (x > 2) return x;
  return 2;
}

std::string twice(const std::string& text) {
  return text;
}

struct Local {
  int member() const { return 1; }
};

int step(int x) {
  return 3 * x;
}

// What its name cannot say.
int explained(int x) {
  return 4 * x;
}

bool is_large(int x) {
  return x > 5;
}

int summed(int x) {
  int sum = 0;
  for (int i = 0; i < x; ++i) sum += i;
  return sum;
}

int doc() {
  return 6;
}

}  // namespace

int count(const int* first, const int* last) {
  return is_even(*first) ? 0 : static_cast<int>(std::count_if(first, last, is_even));
}

int shown() {
  return either(2) + Local{}.member() + static_cast<int>(twice("a").size() + twice("b").size());
}

int steps() {
  return step(shown()) + count(nullptr, nullptr);
}

int folded(int x) { return once(x); }
int told(int x) { return explained(x); }
int asked(int x) { return is_large(x) ? 1 : 0; }
int nested(int x) {
  const int sum = summed(x);
  return sum;
}
int documented() { return doc(); }

}  // namespace mlx_kd::search
"""


class SingleCallers(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="kd_callers_"))
        self.addCleanup(shutil.rmtree, self.root)
        (self.root / "mlx_kd" / "search").mkdir(parents=True)
        (self.root / "mlx_kd" / "search" / "a.cpp").write_text(SOURCE)
        for other in range(9):
            (self.root / "mlx_kd" / "search" / f"b{other}.cpp").write_text("int doc() {\n  return 7;\n}\n")

    def call(self, *arguments, path=None):
        environment = dict(os.environ, **({"PATH": path} if path else {}))
        return subprocess.run([sys.executable, SCRIPT, *arguments, self.root], capture_output=True, text=True, env=environment)

    def check(self, path):
        result = self.call("--list", path=path)
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stdout.splitlines()
        self.assertEqual({line.split(": ")[1] for line in lines[:-2]}, {
            "once, 3 lines, could be folded", "either, 4 lines, leaves early", "step, 3 lines, a step of several",
            "explained, 3 lines, is explained", "is_large, 3 lines, names a condition",
            "summed, 5 lines, has a loop", "doc, 3 lines, in many files"})
        self.assertEqual(lines[-2:], [
            "exactly one caller: 7 functions, 70.0 % of 10 file-local functions, 25.9 % of all 27",
            "of these: 1 leaves early, 0 in an expression, 0 would be too long, 1 a step of several, 1 is explained, "
            "1 names a condition, 1 has a loop, 1 in many files, 1 could be folded"])

    def test_a_function_that_is_handed_on_has_another_use(self):
        self.assertNotIn("is_even", self.call("--list").stdout)

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
