"""kd manifest: evidence of runs, and the manifest of the models that are followed."""
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

KD = os.environ["MLX_KD_PROGRAM"]
SOURCE = Path(os.environ["MLX_KD_SOURCE_DIR"])
TRACKED = {
    "mlx-community/GLM-4.7-Flash-4bit": ("glm", ["rmsnorm_residual", "rope", "swiglu"], "glm_flash_small"),
    "mlx-community/Qwen3-30B-A3B-4bit": ("qwen", ["rmsnorm_residual", "swiglu"], "qwen30b_decode"),
    "mlx-community/LFM2-8B-A1B-4bit": ("lfm", ["rmsnorm_residual", "swiglu"], "lfm2_decode"),
    "mlx-community/LFM2-8B-A1B-8bit": ("lfm", ["rmsnorm_residual", "swiglu"], "lfm2_decode"),
    "mlx-community/LFM2-8B-A1B-8bit-MLX": ("lfm", ["rmsnorm_residual", "swiglu"], "lfm2_decode"),
}


def kd(*arguments, code=0, cwd=None):
    result = subprocess.run([KD, *map(str, arguments)], capture_output=True, text=True, timeout=300, cwd=cwd)
    assert result.returncode == code, result.stderr
    return result


def commands_of(manifest):
    for model in manifest["models"]:
        phase = model["phase0"]
        yield from phase["commands_used_or_planned"] + phase["optional_baseline_rmsnorm"]


class TheCommittedManifest(unittest.TestCase):
    def setUp(self):
        self.manifest = json.loads((SOURCE / "configs" / "kd_phase0_model_manifest.json").read_text())

    def test_is_what_the_committed_evidence_gives(self):
        kd("manifest", "--check", cwd=SOURCE)

    def test_follows_the_models_of_the_first_phase(self):
        found = {model["model_id"]: (model["model_family"], model["phase0"]["selected_ops"], model["phase0"]["shape_suite"])
                 for model in self.manifest["models"]}
        self.assertEqual(found, TRACKED)
        for model in self.manifest["models"]:
            selected = "rope" in model["phase0"]["selected_ops"]
            self.assertEqual(model["phase0"]["rope_status"].startswith("selected"), selected)

    def test_ops_and_suites_are_those_of_the_program(self):
        suites = {op["name"]: set(op["suites"]) for op in json.loads(kd("ops", "--json").stdout)}
        for command in commands_of(self.manifest):
            self.assertIn(command["suite"], suites[command["op"]])

    def test_every_command_is_one_that_the_program_takes(self):
        known = set(re.findall(r"--[a-z-]+", kd("run", "--help").stdout))
        for command in commands_of(self.manifest):
            words = shlex.split(command["command"])
            self.assertEqual(words[:2], ["./kd", "run"])
            self.assertLessEqual({word for word in words if word.startswith("--")}, known)
            self.assertEqual(words[words.index("--op") + 1], command["op"])
            self.assertEqual(words[words.index("--shapes") + 1], command["suite"])

    def test_what_is_said_to_be_run_has_its_evidence_and_the_rest_is_planned(self):
        matrix = SOURCE / self.manifest["source_of_truth"]["matrix"]
        rows = [json.loads(line) for line in matrix.read_text().splitlines()] if matrix.exists() else []
        ids = {row["id"]: row for row in rows}
        for command in commands_of(self.manifest):
            if command["status"] == "planned":
                self.assertNotIn("evidence", command)
                continue
            self.assertEqual(command["status"], "run")
            row = ids[command["evidence"]]
            capsule = json.loads((matrix.parent / row["capsule"]).read_text())
            self.assertEqual(capsule["command"], command["command"])
            self.assertEqual(capsule["run_meta"]["op_name"], command["op"])
        for model in self.manifest["models"]:
            self.assertLessEqual(set(model["evidence"]["matrix_rows"]), set(ids))
            for capsule in model["evidence"]["repro_capsules"]:
                self.assertTrue((SOURCE / capsule).is_file(), capsule)
            self.assertEqual(model["runtime_fingerprint"] is None, not model["evidence"]["matrix_rows"])

    def test_packs_that_are_named_are_there(self):
        for pack in self.manifest["artifacts"]["packs"]:
            kd("show", SOURCE / pack)


class TheScriptOfShippedPacks(unittest.TestCase):
    def test_runs_every_suite_of_every_op_in_every_type(self):
        jobs = subprocess.run([sys.executable, SOURCE / "bench" / "make_packs.py", "--kd", KD, "--dry-run"],
                              capture_output=True, text=True, check=True).stdout.splitlines()
        ops = json.loads(kd("ops", "--json").stdout)
        wanted = [f"{op['name']} {suite} {dtype}" for dtype in ("float16", "bfloat16", "float32") for op in ops
                  for suite in op["suites"]]
        self.assertEqual(sorted(jobs), sorted(wanted))


class Evidence(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.runs = tempfile.TemporaryDirectory(prefix="kd_manifest_")
        cls.addClassCleanup(cls.runs.cleanup)
        cls.run_dir = Path(cls.runs.name) / "run"
        kd("run", "--op", "rope", "--shapes", "glm_flash_small", "--budget", "2", "--finalists", "1",
           "--claims", "quick", "--quiet", "--out", cls.run_dir)

    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="kd_manifest_")
        self.addCleanup(temp.cleanup)
        self.folder = Path(temp.name)
        self.file = self.folder / "manifest.json"
        self.matrix = self.folder / "evidence" / "matrix.jsonl"

    def manifest(self, *options, code=0, output=None):
        return kd("manifest", "--evidence", "evidence", "--output", output or self.file, "--packs", "packs", *options,
                  code=code, cwd=self.folder)

    def answer(self):
        return json.loads(self.file.read_text())

    def test_without_evidence_everything_is_planned(self):
        self.manifest()
        self.assertEqual({command["status"] for command in commands_of(self.answer())}, {"planned"})
        self.assertEqual([model["runtime_fingerprint"] for model in self.answer()["models"]], [None] * 5)
        self.assertEqual(self.answer()["artifacts"]["packs"], [])

    def test_an_added_run_is_evidence_with_a_row_and_a_capsule(self):
        self.manifest("--add", self.run_dir)
        glm, qwen = self.answer()["models"][:2]
        run = [c for c in glm["phase0"]["commands_used_or_planned"] if c["status"] == "run"]
        self.assertEqual([(c["op"], c["dtype"], c["device"]) for c in run], [("rope", "float16", "cpu")])
        self.assertIn("--budget 2 ", run[0]["command"])
        self.assertEqual(qwen["evidence"]["matrix_rows"], [])
        self.assertEqual(glm["evidence"]["matrix_rows"], [run[0]["evidence"]])
        row = json.loads(self.matrix.read_text())
        self.assertEqual((row["evaluated"], row["sizes"]), (2, 3))
        capsule = json.loads((self.folder / glm["evidence"]["repro_capsules"][0]).read_text())
        self.assertEqual(sum(capsule["statuses"].values()), 2)
        self.assertEqual(glm["runtime_fingerprint"]["mlx_version"], row["mlx_version"])

    def test_the_command_of_a_capsule_runs_again(self):
        self.manifest("--add", self.run_dir)
        capsule = next((self.folder / "evidence" / "capsules").iterdir())
        words = shlex.split(json.loads(capsule.read_text())["command"])[1:]
        words[words.index("--out") + 1] = str(self.folder / "again")
        words[words.index("--device") + 1] = "null"
        kd(*words, "--quiet")

    def test_the_same_run_added_again_takes_its_own_place(self):
        self.manifest("--add", self.run_dir)
        first = self.matrix.read_text(), self.file.read_text()
        self.manifest("--add", self.run_dir)
        self.assertEqual((self.matrix.read_text(), self.file.read_text()), first)
        self.manifest("--check")

    def test_a_manifest_out_of_date_is_found(self):
        self.manifest()
        before = self.file.read_text()
        self.manifest("--add", self.run_dir)
        self.file.write_text(before)
        self.assertIn("write it again", self.manifest("--check", code=1).stderr)
        self.assertEqual(self.file.read_text(), before)

    def test_packs_are_named(self):
        (self.folder / "packs").mkdir()
        (self.folder / "packs" / "b.json").write_text("{}")
        (self.folder / "packs" / "README.md").write_text("")
        self.manifest()
        self.assertEqual(self.answer()["artifacts"]["packs"], ["packs/b.json"])

    def refuses(self, word, *options):
        self.assertIn(word, self.manifest(*options, code=2).stderr)
        self.assertFalse(self.file.exists())

    def test_runs_that_are_no_evidence(self):
        null, mine, cut, simt = (self.folder / name for name in ("null", "mine", "cut", "simt"))
        kd("run", "--op", "rope", "--device", "null", "--budget", "2", "--quiet", "--out", null)
        self.refuses("null device", "--add", null)
        for path, changes in ((mine, {"shape_suite": "custom"}), (cut, {}), (simt, {"device": "simt"})):
            path.mkdir()
            meta = json.loads((self.run_dir / "run_meta.json").read_text())
            (path / "run_meta.json").write_text(json.dumps({**meta, **changes}))
            lines = (self.run_dir / "run.ndjson").read_text().splitlines(True)
            (path / "run.ndjson").write_text("".join(lines[:-1] if path == cut else lines))
        self.refuses("simt device", "--add", simt)
        self.refuses("not a suite", "--add", mine)
        self.refuses("not finished", "--add", cut)
        self.refuses("none", "--add", self.folder / "none")

    def test_damaged_evidence_is_named_by_its_line(self):
        self.manifest("--add", self.run_dir)
        row = self.matrix.read_text()
        self.file.unlink()
        for text, word in ((row + "{", "line 2"), (row + "[]\n", "line 2"), ("{}\n", "line 1"),
                           (row.replace('"op_name":"rope"', '"op_name":3'), "op_name")):
            self.matrix.write_text(text)
            self.refuses(word)
        self.matrix.write_text(row)
        next((self.folder / "evidence" / "capsules").iterdir()).unlink()
        self.refuses("is not there")

    def test_a_manifest_that_cannot_be_written(self):
        (self.folder / "file").write_text("")
        self.assertIn("file", self.manifest(output=self.folder / "file" / "x.json", code=1).stderr)


if __name__ == "__main__":
    unittest.main()
