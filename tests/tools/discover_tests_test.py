"""cmake/DiscoverTests.cmake: the CTest entries of a program's tests, and how their results are reported."""
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

CMAKE = os.environ["MLX_KD_CMAKE"]
SCRIPT = Path(os.environ["MLX_KD_SOURCE_DIR"]) / "cmake" / "DiscoverTests.cmake"
LIST = """Plain.
  One
  DISABLED_Two
Table/Every.
  First/a_1  # GetParam() = ("a; b", 1)
  First/0  # GetParam() = 0
  Second/a_1  # GetParam() = ("a; b", 1)
  Second/0  # GetParam() = 0
Only/Of.
  Test/x  # GetParam() = "x"
"""
SKIPPED = "[  SKIPPED ] {0} test{1}, listed below:\\n[  SKIPPED ] A.a\\n"


class DiscoverTests(unittest.TestCase):
    def discovered(self, printed="", status=0):
        """CTest's output on a program that prints a text and ends so, whatever the filter."""
        temp = tempfile.TemporaryDirectory(prefix="kd_discover_")
        self.addCleanup(temp.cleanup)
        folder = Path(temp.name)
        program = folder / "program"
        program.write_text(f"#!/bin/sh\nif [ \"$1\" = --gtest_list_tests ]; then cat <<'END'\n{LIST}END\nexit; fi\n"
                           f"echo \"$1\"\nprintf '{printed}'\nexit {status}\n")
        program.chmod(0o755)
        subprocess.run([CMAKE, f"-DPROGRAM={program}", f"-DOUT={folder}/CTestTestfile.cmake", "-DLABEL=room",
                        f"-DFOLDER={folder}", "-P", SCRIPT], check=True)
        return subprocess.run([Path(CMAKE).with_name("ctest"), "-V"], cwd=folder, capture_output=True, text=True).stdout

    def test_the_tests_of_a_value_are_one_entry(self):
        output = self.discovered()
        filters = sorted(line.split("--gtest_filter=")[1] for line in output.splitlines()
                         if line.partition(": ")[2].startswith("--gtest_filter="))
        self.assertEqual(filters, ["Only/Of.Test/x", "Plain.One", "Table/Every.*/0", "Table/Every.*/a_1"])
        self.assertIn("Plain.DISABLED_Two (Disabled)", output)
        self.assertIn("Table/Every/a_1 ", output)
        self.assertIn("100% tests passed", output)

    def test_an_entry_is_skipped_if_all_of_it_is(self):
        self.assertEqual(self.discovered("[  PASSED  ] 0 tests.\\n" + SKIPPED.format(1, "")).count("***Skipped"), 4)
        self.assertEqual(self.discovered("[  PASSED  ] 1 test.\\n" + SKIPPED.format(1, "")).count("***Skipped"), 0)

    def test_a_failure_next_to_what_is_skipped_is_a_failure(self):
        failed = "[  PASSED  ] 0 tests.\\n" + SKIPPED.format(1, "") + "[  FAILED  ] 1 test, listed below:\\n"
        self.assertEqual(self.discovered(failed, status=1).count("***Failed"), 4)


if __name__ == "__main__":
    unittest.main()
