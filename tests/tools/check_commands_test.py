"""check_commands.py finds commands that documents show and the program lacks."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(os.environ["MLX_KD_SOURCE_DIR"]) / "tools" / "check_commands.py"
PROGRAM = """#!/bin/sh
[ "$1" = run ] && [ "$2" = --help ] || exit 2
echo '  --op TEXT REQUIRED   the operator'
echo '  -b,--budget INT      how many candidates'
"""


class CheckCommands(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="kd_commands_"))
        self.addCleanup(shutil.rmtree, self.root)
        self.program = self.root / "program"
        self.program.write_text(PROGRAM)
        self.program.chmod(0o755)
        (self.root / "kd").write_text('#!/bin/sh\ncase $1 in test) echo "  --long   more" ;; check) ;; *) exit 2 ;; esac\n')
        (self.root / "kd").chmod(0o755)
        (self.root / "CONTRIBUTING.md").write_text("None here.\n")

    def check(self, readme):
        (self.root / "README.md").write_text(readme)
        return subprocess.run([sys.executable, SCRIPT, self.program, self.root], capture_output=True, text=True)

    def assert_found(self, command, text):
        result = self.check(f"```\n{command}\n```\n")
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertIn(text, result.stdout)

    def test_commands_that_exist_pass(self):
        result = self.check("```sh\n$ KD_YES=1 ./kd run --op rope \\\n    -b 3  # note\n./kd test --long\n```\n")
        self.assertEqual(result.returncode, 0, result.stdout)

    def test_unknown_verb_is_found_with_its_line(self):
        self.assert_found("./kd fly", "README.md:2: kd has no verb fly")

    def test_unknown_option_is_found(self):
        self.assert_found("./kd run --op rope --bugdet=3", "kd run has no option --bugdet")

    def test_unknown_option_of_the_script_is_found(self):
        self.assert_found("./kd test --fast", "kd test has no option --fast")

    def test_verbs_of_the_script_are_asked_of_the_script(self):
        self.assertEqual(self.check("```\n./kd check\n```\n").returncode, 0)
        self.assert_found("./kd check --fast", "kd check has no option --fast")
        self.assert_found("./kd hooks", "kd has no verb hooks")

    def test_option_on_a_continued_line_is_found(self):
        self.assert_found("./kd run \\\n  --nowhere", "--nowhere")

    def test_text_outside_fences_is_prose(self):
        result = self.check("./kd fly\n```\n./kd run\n```\n")
        self.assertEqual(result.returncode, 0, result.stdout)

    def test_documents_without_a_command_are_no_success(self):
        self.assertEqual(self.check("Nothing.\n").returncode, 1)


if __name__ == "__main__":
    unittest.main()
