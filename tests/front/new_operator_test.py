"""An operator is one new folder and no edited file: the example of docs/add-an-operator.md, as a
reader would type it, and what kd new-op makes of kernels that were tuned, in a copy of the tree."""
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from tests.support.tuned import SCALE, SCALE_REFERENCE, SOFTMAX, SOFTMAX_REFERENCE, python_with_mlx

SOURCE = Path(os.environ["MLX_KD_SOURCE_DIR"])
BUILD = Path(os.environ["MLX_KD_BUILD_DIR"])
BLOCK = re.compile(r"^`(mlx_kd/kernels/[^`]+)`:\n+```cpp\n(.*?)^```", re.MULTILINE | re.DOTALL)
PARTS = ("CMakeLists.txt", "CMakePresets.json", "cmake", "mlx_kd")


KD = os.environ["MLX_KD_PROGRAM"]
LONG = os.environ.get("MLX_KD_LONG")

# y = x / sqrt(mean of x^2 + eps) * weight, which the table has: its reference is the operator's.
NORM = """// kd: units (rows)
// kd: threads (THREADS)
// kd: knob THREADS 2, 1
#ifndef TURNS
#define TURNS 1  // knob: 1, 2
#endif
extern "C" void norm(const void* const* inputs, void* const* outputs, const long* dims, const double* params,
                     long begin, long end) {
  const float* weight = (const float*)inputs[1];
  for (long row = begin; row < end; ++row) {
    const float* x = (const float*)inputs[0] + row * dims[1];
    double sum = 0;
    for (long i = 0; i < dims[1]; ++i) sum += (double)x[i] * x[i];
    for (int turn = 0; turn < TURNS; ++turn)
      for (long i = turn; i < dims[1]; i += TURNS)
        ((float*)outputs[0])[row * dims[1] + i] = x[i] * (float)(1 / __builtin_sqrt(sum / dims[1] + params[0])) * weight[i];
  }
}
"""
MADE = {"row_softmax": "activations", "scaled_rows": "activations", "own_norm": "norms"}


def run(*command, **environment):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, env={**os.environ, **environment})


class NewOperator(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temp = Path(tempfile.mkdtemp(prefix="kd_operator_"))
        cls.addClassCleanup(shutil.rmtree, cls.temp, ignore_errors=True)
        cls.tree = cls.temp / "tree"
        for name in PARTS:
            copy = shutil.copytree if (SOURCE / name).is_dir() else shutil.copy2
            (cls.tree).mkdir(exist_ok=True)
            copy(SOURCE / name, cls.tree / name)
        document = (SOURCE / "docs" / "add-an-operator.md").read_text()
        cls.files = dict(BLOCK.findall(document))
        for name, text in cls.files.items():
            (cls.tree / name).parent.mkdir(parents=True, exist_ok=True)
            (cls.tree / name).write_text(text)
        cls.python = {"MLX_KD_PYTHON": python_with_mlx()}
        cls.made = cls.make()
        cls.built = cls.build()
        cls.kd = cls.temp / "build" / "kd"

    @classmethod
    def make(cls):
        """The folders of three kernels: of a run, of a file, of a file like an operator of the table."""
        texts = {"softmax.metal": SOFTMAX, "softmax.py": SOFTMAX_REFERENCE, "scale.cpu.cpp": SCALE,
                 "scale.py": SCALE_REFERENCE, "norm.cpu.cpp": NORM}
        for name, text in texts.items():
            (cls.temp / name).write_text(text)
        tuned = run(KD, "tune", cls.temp / "softmax.metal", "--fn", "softmax_rows", "--ref", cls.temp / "softmax.py",
                    "--shapes", "rows=2,D=64", "--budget", 2, "--finalists", 1, "--claims", "quick", "--quiet",
                    "--out", cls.temp / "tuned", **cls.python)
        if tuned.returncode:
            return [tuned]
        softmax = [cls.temp / "tuned", "--summary", "y = softmax of each row of x"]
        scale = [cls.temp / "scale.cpu.cpp", "--fn", "scale_rows", "--ref", cls.temp / "scale.py", "--shapes", "rows=1|3,D=40"]
        norm = [cls.temp / "norm.cpu.cpp", "--fn", "norm", "--ref", "rmsnorm", "--shapes", "rows=4,D=64"]
        return [run(KD, "new-op", f"{MADE[name]}/{name}", *words, "--tree", cls.tree, **cls.python)
                for name, words in (("row_softmax", softmax), ("scaled_rows", scale), ("own_norm", norm))]

    @classmethod
    def build(cls):
        """Configures and builds; the rooms that did not change are this build's own libraries."""
        configured = run(
            os.environ["MLX_KD_CMAKE"], "-S", cls.tree, "-B", cls.temp / "build", "-G", "Ninja",
            "-DCMAKE_BUILD_TYPE=Release", "-DMLX_KD_BUILD_TESTS=OFF", "-DMLX_KD_WERROR=ON",
            f"-DCMAKE_CXX_COMPILER={os.environ['MLX_KD_CXX']}", f"-DMLX_KD_PREBUILT={BUILD}",
            f"-DMLX_KD_MLX_DIR={os.environ['MLX_KD_MLX_DIR']}")
        if configured.returncode:
            return configured
        return run(os.environ["MLX_KD_CMAKE"], "--build", cls.temp / "build", "--target", "kd")

    def test_the_document_holds_the_operator_and_its_kernel(self):
        self.assertEqual(sorted(self.files), ["mlx_kd/kernels/activations/scale/op.cpp",
                                              "mlx_kd/kernels/activations/scale/scale.cpu.cpp"])

    def test_it_builds_without_warnings(self):
        self.assertEqual(self.built.returncode, 0, self.built.stdout + self.built.stderr)
        self.assertNotIn("warning:", self.built.stdout + self.built.stderr)

    def test_it_is_listed(self):
        result = run(self.kd, "ops")
        self.assertIn("scale", result.stdout, result.stderr)

    def test_it_is_proved(self):
        for dtype in ("float32", "float16", "bfloat16"):
            result = run(self.kd, "verify", "--op", "scale", "--dtype", dtype)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_folders_of_tuned_kernels_are_made_with_their_tests(self):
        for made in self.made:
            self.assertEqual(made.returncode, 0, made.stdout + made.stderr)
            self.assertIn("Next: ./kd format", made.stderr)
        for name, family in MADE.items():
            self.assertTrue((self.tree / "mlx_kd" / "kernels" / family / name / "op.cpp").exists(), name)
            self.assertTrue((self.tree / "tests" / "kernels" / family / f"{name}_test.cpp").exists(), name)
        text = (self.tree / "tests" / "kernels" / "activations" / "row_softmax_test.cpp").read_text()
        self.assertIn("HasTheSettingsThatWon", text)
        self.assertIn('spec::Dims::parse("rows=2,D=65")', text)

    def test_they_are_whole_and_proved(self):
        result = run(self.kd, "ops", "--check", **self.python)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        for name, types in (("row_softmax", ("float32", "bfloat16")), ("scaled_rows", ("float32",)),
                                    ("own_norm", ("float32",))):
            for dtype in types:
                device = "simt" if name == "row_softmax" else "cpu"
                result = run(self.kd, "verify", "--op", name, "--dtype", dtype, "--device", device, "--candidates", 1,
                             **self.python)
                self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_a_size_that_a_setting_does_not_fit_is_refused(self):
        result = run(self.kd, "verify", "--op", "row_softmax", "--device", "simt", "--shapes", "rows=2,D=65", **self.python)
        self.assertEqual(result.returncode, 2, result.stdout + result.stderr)
        self.assertIn("'row_softmax' does not take rows=2,D=65: 'D % VEC == 0' does not hold with VEC=2", result.stderr)

    def test_names_and_places_that_cannot_be_are_refused(self):
        scale = [self.temp / "scale.cpu.cpp", "--fn", "scale_rows", "--ref", self.temp / "scale.py", "--shapes", "rows=1,D=40"]
        for place, words in (("activations/Scale", "cannot name an operator's folder"), ("scale", "cannot name an operator's folder"),
                             ("norms/rmsnorm", "is an operator of the table"),
                             ("activations/scaled_rows", "exists: choose another name")):
            result = run(KD, "new-op", place, *scale, "--tree", self.tree, **self.python)
            self.assertEqual(result.returncode, 2, result.stdout + result.stderr)
            self.assertIn(words, result.stderr)
        outside = run(KD, "new-op", "activations/other", *scale, "--tree", self.temp, **self.python)
        self.assertIn("is not in a clone of mlx-kd", outside.stderr)
        without = run(KD, "new-op", "activations/other", *scale[:-2], "--tree", self.tree, **self.python)
        self.assertIn("has no sizes: give --shapes", without.stderr)

    @unittest.skipUnless(LONG, "it builds the tests of the copy (./kd test --long)")
    def test_the_tests_of_all_operators_take_them(self):
        for part in ("tests", "tools", "bench", "docs", "packs", "configs"):
            if (SOURCE / part).is_dir():
                shutil.copytree(SOURCE / part, self.tree / part, dirs_exist_ok=True)
        build = self.temp / "build"
        configured = run(os.environ["MLX_KD_CMAKE"], "-S", self.tree, "-B", build, "-DMLX_KD_BUILD_TESTS=ON")
        self.assertEqual(configured.returncode, 0, configured.stdout + configured.stderr)
        built = run(os.environ["MLX_KD_CMAKE"], "--build", build, "--target", "test_kernels", "test_evaluate")
        self.assertEqual(built.returncode, 0, built.stdout + built.stderr)
        for program, names in (("test_kernels", "RowSoftmax.*:ScaledRows.*:OwnNorm.*"),
                               ("test_evaluate", "Table/EveryOp.*row_softmax*:Table/EveryOp.*scaled_rows*")):
            result = run(build / "tests" / program, f"--gtest_filter={names}", **self.python)
            self.assertEqual(result.returncode, 0, result.stdout[-3000:] + result.stderr[-3000:])
            self.assertNotIn("0 tests from", result.stdout)

    def test_it_is_searched(self):
        out = self.temp / "run"
        result = run(self.kd, "run", "--op", "scale", "--device", "null", "--budget", "8", "--out", out)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        records = [json.loads(line) for line in (out / "run.ndjson").read_text().splitlines()]
        self.assertEqual(sum("step" in record for record in records), 8)


if __name__ == "__main__":
    unittest.main()
