"""docs/tune-your-own.md as a reader would type it; with --long at its own budgets."""
import re
import subprocess
import sys
import unittest

from tests.support.package import LONG, PackageTest, SOURCE, environment

from mlx_kd import _program

FILE = re.compile(r"`(softmax\.\w+)`[^`]*:\n+```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Document(PackageTest):
    def test_it_runs_as_it_is_written(self):
        folder = self.folder()
        text = (SOURCE / "docs" / "tune-your-own.md").read_text()
        files = dict(FILE.findall(text))
        self.assertEqual(sorted(files), ["softmax.metal", "softmax.py"])
        for name, content in files.items():
            (folder / name).write_text(content)
        blocks = BLOCK.findall(text)
        commands = [block.replace("./kd", str(_program.path())) for kind, block in blocks if kind == "sh"]
        self.assertEqual(len(commands), 1)
        if not LONG:
            commands = [command.replace("--budget 100", "--budget 2 --finalists 1 --claims quick") for command in commands]
        for command in commands:
            done = subprocess.run(command, shell=True, cwd=folder, env=_program.environment(), capture_output=True, text=True)
            self.assert_succeeds(done)
        self.assertTrue((folder / "pins.json").exists())
        scripts = [block for kind, block in blocks if kind == "python" and block not in files.values()]
        self.assertEqual(len(scripts), 2)
        (folder / "program.py").write_text(
            "\n".join(scripts) + "\nassert mx.allclose(y, mx.exp(mx.ones((8, 64)))), y\nassert exp.settings, exp.settings\n")
        self.assert_succeeds(subprocess.run(
            [sys.executable, "program.py"], cwd=folder, env=environment(XDG_CACHE_HOME=folder / "cache"),
            capture_output=True, text=True))


if __name__ == "__main__":
    unittest.main()
