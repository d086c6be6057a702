"""What users have from before works, or the message says what to do: run directories and packs of older schemas."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

KD = os.environ["MLX_KD_PROGRAM"]
GOLDEN = Path(os.environ["MLX_KD_SOURCE_DIR"]) / "tests" / "packs" / "golden"
RUN = ("run", "--op", "rmsnorm", "--device", "null", "--seed", "7", "--shapes", "rows=4,D=64", "--quiet", "--out")
# What zmlx.kd writes into run_meta.json.
FIRST = ("created_at", "op_name", "seed", "budget", "dtype", "shape_suite", "runtime")


def kd(*arguments, code=0):
    result = subprocess.run([KD, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert result.returncode == code, result.stdout + result.stderr
    return result


class RunDirectory(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temp = tempfile.TemporaryDirectory(prefix="kd_before_")
        cls.addClassCleanup(temp.cleanup)
        cls.folder = Path(temp.name)
        kd(*RUN, cls.folder / "now", "--budget", 12)

    def before(self, change):
        """The run as an older version would have left it."""
        folder = self.folder / self.id()
        shutil.copytree(self.folder / "now", folder)
        meta = json.loads((folder / "run_meta.json").read_text())
        (folder / "run_meta.json").write_text(json.dumps(change(meta)))
        return folder

    def assert_is_read(self, folder):
        for name in ("report.md", "report.html"):
            (folder / name).unlink()
        self.assertIn("rows=4", kd("report", "--run", folder).stdout)
        self.assertTrue((folder / "report.html").exists())
        self.assertIn("same winner", kd("compare", self.folder / "now", folder).stdout)
        kd("export", "--cache", folder, "--out", self.folder / "cache.json")

    def assert_cannot_go_on(self, folder, words):
        log = (folder / "run.ndjson").read_bytes()
        message = kd(*RUN, folder, "--budget", 14, "--resume", code=2).stderr
        self.assertIn(words, message)
        self.assertIn("ask for the same, or choose another folder", message)
        self.assertEqual((folder / "run.ndjson").read_bytes(), log)

    def test_with_the_keys_of_the_first_version_is_read_and_not_resumed(self):
        folder = self.before(lambda meta: {"schema_version": "1", **{key: meta[key] for key in FIRST}})
        self.assert_is_read(folder)
        self.assert_cannot_go_on(folder, "it differs in sizes (there ''")

    def test_whose_protocol_is_a_hash_is_read_and_not_resumed(self):
        folder = self.before(lambda meta: {**meta, "schema_version": "2", "protocol": 64 * "1",
                                           "protocol_settings": {"proof": {"text": "as it was"}}})
        self.assert_is_read(folder)
        self.assert_cannot_go_on(folder, f"it differs in protocol (there '{64 * '1'}'")

    def test_of_a_newer_version_names_what_this_one_knows(self):
        folder = self.before(lambda meta: {**meta, "schema_version": "99"})
        self.assertIn("use a newer mlx-kd", kd("report", "--run", folder, code=2).stderr)


class Packs(unittest.TestCase):
    def test_of_each_older_schema_are_shown_and_merged(self):
        with tempfile.TemporaryDirectory(prefix="kd_before_") as folder:
            for schema in (1, 2, 3):
                pack = GOLDEN / f"schema{schema}.json"
                entries = json.loads(kd("show", pack, "--json").stdout)["entries"]
                self.assertTrue(entries, pack)
                out = Path(folder) / f"{schema}.json"
                kd("pack", "--runs", pack, "--out", out)
                self.assertEqual(json.loads(out.read_text())["schema_version"], "4")


if __name__ == "__main__":
    unittest.main()
