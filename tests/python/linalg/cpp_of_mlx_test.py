"""MLX's own C++ tests of linear algebra on mlx_kd::linalg (long; or MLX_KD_MLX_LINALG_CPP_TESTS=FILE).

FILE is tests/linalg_tests.cpp of MLX's source in the version of requirements.txt. Without it git fetches that
version's into a folder of the build. They are written for doctest (doctest-dev of Debian).
"""
import os
import re
import sys
import unittest
from pathlib import Path

from tests.support.package import LONG, PREFIX, PackageTest, run

FILE = os.environ.get("MLX_KD_MLX_LINALG_CPP_TESTS", "")
if not FILE and not LONG:
    print("skipped: MLX's own C++ tests of linear algebra are long (./kd test --long)")
    sys.exit(77)

MLX = Path(os.environ["MLX_KD_MLX_DIR"])
CXX = [os.environ["MLX_KD_CXX"], "-std=c++20", "-w"]


def on_ours(text):
    """What a user changes: the using line; and here the calls that name MLX's namespace in full."""
    text, lines = re.subn(r"using namespace mlx::core::linalg;", "using namespace mlx_kd::linalg;", text)
    text, calls = re.subn(r"(?<![\w:.])linalg::", "mlx_kd::linalg::", text)
    assert lines >= 1 and calls > 20, (lines, calls)
    return "#include <mlx_kd/mlx_kd.h>\n" + text


class OfMlx(PackageTest):
    def test_they_pass(self):
        folder = self.folder()
        (folder / "probe.cpp").write_text("#include <doctest/doctest.h>\n")
        if run(*CXX, "-fsyntax-only", folder / "probe.cpp").returncode:
            self.skipTest("doctest is not installed: apt-get install doctest-dev")
        if FILE:
            source = Path(FILE)
        else:
            from tests.support.mlx_source import fetched
            source = fetched("tests/linalg_tests.cpp")
        (folder / "tests.cpp").write_text(on_ours(source.read_text()))
        self.assert_succeeds(run(
            *CXX, "-DDOCTEST_CONFIG_IMPLEMENT_WITH_MAIN", f"-I{PREFIX / 'include'}", f"-I{MLX / 'include'}",
            folder / "tests.cpp", "-o", folder / "tests", PREFIX / "lib" / "libmlx_kd.so",
            MLX / "lib" / "libmlx.so", f"-Wl,-rpath,{PREFIX / 'lib'}:{MLX / 'lib'}"))
        said = self.assert_succeeds(run(folder / "tests"))
        self.assertRegex(said, r"test cases: +(1[5-9]|[2-9]\d) \| +\d+ passed \| 0 failed \| 0 skipped")


if __name__ == "__main__":
    unittest.main()
