"""kd bundle as a user runs it: winners that need no compiler, proved before they are written."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

KD = os.environ["MLX_KD_PROGRAM"]


def kd(*arguments, **environment):
    return subprocess.run([KD, *map(str, arguments)], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **environment})


class Bundle(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = Path(cls.folder.name)
        environment = {"MLX_KD_CACHE_DIR": str(cls.path / "cache")}
        run = kd("run", "--op", "rmsnorm", "--shapes", "rows=2,D=64", "--budget", 3, "--dtype", "float32",
                 "--finalists", 1, "--claims", "quick", "--out", cls.path / "run", **environment)
        assert run.returncode == 0, run.stderr
        found = json.loads((cls.path / "run/best_kernels.json").read_text())
        if not found["entries"]:
            raise unittest.SkipTest("no candidate of three was surely faster than MLX")
        cls.pack = cls.path / "pins.json"
        cls.pack.write_text(json.dumps(found))
        cls.found = found

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def bundle(self, *arguments):
        return kd("bundle", *arguments, MLX_KD_CACHE_DIR=str(self.path / "cache"))

    def test_a_bundle_needs_no_compiler_where_it_is_used(self):
        done = self.bundle(self.pack, "-o", self.path / "bundle.json")
        self.assertEqual(done.returncode, 0, done.stderr)
        for name, uses in (("pins.json", False), ("bundle.json", True)):
            with tempfile.TemporaryDirectory() as cache:
                ran = kd("prewarm", self.path / name, "--json", MLX_KD_CACHE_DIR=cache, PATH="/nowhere",
                         CXX="/nowhere/c++")
            self.assertEqual(json.loads(ran.stdout)["pins"][0]["state"], "ready" if uses else "dropped")

    def test_a_lower_level_asks_for_no_more_than_it_needs(self):
        if os.uname().machine != "x86_64":
            self.skipTest("levels are those of x86-64")
        widest = json.loads(json.dumps(self.found))
        for entry in widest["entries"]:  # as winners of a CPU with AVX-512 are
            entry["template_params"].update(VEC=64, STREAM=1)
        wide = self.path / "wide.json"
        wide.write_text(json.dumps(widest))
        for march, isa in (("x86-64-v2", ["sse42"]),
                           ("x86-64-v3", ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "sse42"])):
            out = self.path / "lower.json"
            done = self.bundle(wide, "-o", out, "--march", march, "--json")
            if "this CPU lacks" in done.stderr:
                self.skipTest(done.stderr)
            self.assertEqual(done.returncode, 0, done.stdout)
            lower = json.loads(out.read_text())
            entry = lower["entries"][0]
            self.assertEqual([common["target"]["isa"] for common in lower["common"]], [isa])
            self.assertEqual(entry["object"]["march"], march)
            self.assertEqual(json.loads(done.stdout)["entries_written"], len(widest["entries"]))

    def test_where_nothing_can_be_bundled_nothing_is_written(self):
        broken = json.loads(json.dumps(self.found))
        for entry in broken["entries"]:
            entry["source"] = "#error no kernel"
        pack = self.path / "bad.json"
        in_cuda = [dict(entry, language="cuda", source="// in CUDA") for entry in self.found["entries"]]
        for text in (broken, {**self.found, "entries": in_cuda}):
            pack.write_text(json.dumps(text))
            done = self.bundle(pack, "-o", self.path / "none.json")
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("left out: rmsnorm float32", done.stdout)
            self.assertFalse((self.path / "none.json").exists())

    def test_a_kernel_that_computes_something_else_is_not_bundled(self):
        wrong = json.loads(json.dumps(self.found))
        name = wrong["entries"][0]["func_name"]
        for entry in wrong["entries"]:
            entry["source"] = ('extern "C" void ' + name + "(const void* const*, void* const* out, const long* dims, "
                               "const double*, long begin, long end) {\n  for (long i = begin * dims[1]; "
                               "i < end * dims[1]; ++i) ((float*)out[0])[i] = 1;\n}\n")
        pack = self.path / "wrong.json"
        pack.write_text(json.dumps(wrong))
        done = self.bundle(pack, "-o", self.path / "none.json")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("wrong: ", done.stdout)
        self.assertFalse((self.path / "none.json").exists())

    def test_a_bundle_whose_object_was_changed_is_not_used(self):
        out = self.path / "changed.json"
        self.assertEqual(self.bundle(self.pack, "-o", out).returncode, 0)
        text = json.loads(out.read_text())
        for change in ({"base64": "AAAA"}, {"base64": "?"}, {"base64": 3}, {"sha256": "0"}):
            changed = json.loads(json.dumps(text))
            changed["entries"][0]["object"].update(change)
            out.write_text(json.dumps(changed))
            ran = self.bundle_used(out)
            self.assertEqual(ran.returncode, 1)
            self.assertIn("make it again with kd bundle", ran.stdout)

    def bundle_used(self, bundle):
        return kd("prewarm", bundle, MLX_KD_CACHE_DIR=str(self.path / "cache"))

    def test_bad_options_are_misuse(self):
        for arguments, part in (((self.pack,), "--output is required"),
                                (("none.json", "-o", self.path / "x.json"), "none.json"),
                                ((self.pack, "-o", self.path / "x.json", "--march", "z80"), "not an instruction-set level"),
                                ((self.pack, "-o", self.pack / "x.json"), "pins.json")):
            done = self.bundle(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(part, done.stderr)
            self.assertFalse((self.path / "x.json").exists())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
