"""tools/operator_names.py: an operator's name outside the folders of operators is found."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOL = Path(__file__).resolve().parent.parent.parent / "tools" / "operator_names.py"


class Names(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.write("kernels/norms/rmsnorm/op.cpp", 'op.name = "rmsnorm";')

    def write(self, path, text):
        file = self.root / "mlx_kd" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")

    def check(self):
        done = subprocess.run([sys.executable, TOOL, self.root], capture_output=True, text=True)
        return done.returncode, done.stdout

    def test_own_folders_comments_and_python_may_name_it(self):
        self.write("kernels/norms/rmsnorm_residual/op.cpp", 'op.summary = "x, then rmsnorm";')
        self.write("runtime/a.cpp", "// as rmsnorm does\nint a; /* rmsnorm\nrmsnorm */")
        self.write("python/ops.cpp", 'm.def("rmsnorm");')
        self.assertEqual(self.check()[0], 0)

    def test_identifiers_and_texts_are_found_with_their_line(self):
        self.write("runtime/a.cpp", '// one\nif (name == "rmsnorm") f();\nint my_rmsnorm_count;')
        code, text = self.check()
        self.assertEqual(code, 1)
        self.assertRegex(text, r"a\.cpp:2: it names the operator 'rmsnorm'")
        self.assertRegex(text, r"a\.cpp:3: ")

    def test_a_part_of_another_word_is_not_a_name(self):
        self.write("runtime/a.cpp", "int rmsnorms, xrmsnorm;")
        self.assertEqual(self.check()[0], 0)

    def test_a_tree_without_operators_is_refused(self):
        (self.root / "mlx_kd/kernels/norms/rmsnorm/op.cpp").unlink()
        self.assertIn("there is no operator", self.check()[1])


if __name__ == "__main__":
    unittest.main()
