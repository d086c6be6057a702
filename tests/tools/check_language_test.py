"""check_language.py finds the constructions that texts do without, in prose alone, and knows exceptions by line."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(os.environ["MLX_KD_SOURCE_DIR"]) / "tools" / "check_language.py"
FOUND = (
    "It stands in a file.", "This is told once.", "It is no kernel.", "A line a size is written.", "Once a process.",
    "It is none that it knows.", "It is no length of time.", "It says how sure it is.", "It is not to be believed.",
    "It writes beside the output.", "It is built anew.", "A kernel of ours.", "It waits for ever.", "The machine at hand.",
    "It has moods.", "The weather of two moments.", "Nobody knows.", "Whoever wrote it.", "The first version wrote it.",
    "A bar a knob.", "It is dear.", "For it is late.", "The run goes on.",
    "It waits in vain.", "All are read, but for the last.",
)
PLAIN = (
    "There is no such file.", "It is no longer used.", "It is told apart by size.", "A stand-in is used.", "It understands.",
    "A call takes 2 us.", "For each size.", "It calls a kernel.", "It is no wider than that.", "The version is the first.",
)


class CheckLanguage(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="kd_language_"))
        self.addCleanup(shutil.rmtree, self.root)
        self.write("README.md", "Plain.\n")

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def check(self, *arguments):
        return subprocess.run([sys.executable, SCRIPT, *arguments, self.root], capture_output=True, text=True)

    def test_each_construction_is_found_with_its_line(self):
        self.write("docs/guide.md", "\n\n".join(FOUND))
        result = self.check()
        self.assertEqual(result.returncode, 1)
        for number, text in enumerate(FOUND):
            self.assertIn(f"docs/guide.md:{1 + 2 * number}: '", result.stdout, text)

    def test_plain_sentences_pass(self):
        self.write("docs/guide.md", "\n\n".join(PLAIN))
        result = self.check()
        self.assertEqual(result.returncode, 0, result.stdout)

    def test_a_construction_over_two_lines_is_found_and_over_two_paragraphs_is_not(self):
        self.write("docs/guide.md", "the first\n  version\n")
        self.assertIn("docs/guide.md:1: 'the first version': write zmlx.kd", self.check().stdout)
        self.write("docs/guide.md", "the first\n\nversion\n")
        self.assertEqual(self.check().returncode, 0)

    def test_code_and_addresses_are_no_prose(self):
        self.write("docs/guide.md", "`stands` and [a](beside.md)\n\n```\nwhoever\n```\n<!-- anew -->\n")
        self.assertEqual(self.check().returncode, 0)

    def test_messages_always_and_comments_on_request(self):
        self.write("mlx_kd/a.cpp", 'int beside = 0;  // it stands\nconst char* s = "anew";\n')
        self.write("mlx_kd/b.py", 'beside = 1  # it stands\n"""Once a\nprocess."""\n')
        self.assertEqual(self.check().stdout.splitlines(), ["mlx_kd/a.cpp:2: 'anew': write again"])
        result = self.check("--code")
        self.assertEqual(result.returncode, 1)
        for text in ("a.cpp:1: 'stands'", "a.cpp:2: 'anew'", "b.py:1: 'stands'", "b.py:2: 'Once a process'"):
            self.assertIn(text, result.stdout)
        self.assertNotIn("'beside'", result.stdout)

    def test_kernel_sources_are_never_read(self):
        self.write("mlx_kd/kernels/a.cpu.cpp", "// it stands\n")
        self.assertEqual(self.check("--code").returncode, 0)

    def test_an_exception_is_for_its_line_alone(self):
        self.write("docs/guide.md", "It stands here.\n\nIt stands there.\n")
        self.write("tools/language_exceptions.txt", "# why\ndocs/guide.md: It stands here.\n")
        result = self.check()
        self.assertEqual(result.stdout.count("'stands'"), 1, result.stdout)
        self.assertIn("docs/guide.md:3", result.stdout)

    def test_an_exception_that_is_not_needed_is_found(self):
        self.write("tools/language_exceptions.txt", "docs/guide.md: It stands here.\n")
        result = self.check()
        self.assertEqual(result.returncode, 1)
        self.assertIn("no finding needs 'docs/guide.md: It stands here.'", result.stdout)

    def test_a_commit_message(self):
        message = self.write("message", "msl: it stands\n\n# nobody\n")
        result = subprocess.run([sys.executable, SCRIPT, "--message", message], capture_output=True, text=True)
        self.assertEqual(result.returncode, 1)
        self.assertIn("line 1 of the message: 'stands'", result.stdout)
        self.assertNotIn("nobody", result.stdout)


if __name__ == "__main__":
    unittest.main()
