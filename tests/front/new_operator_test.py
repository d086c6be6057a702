"""An operator is one new folder and no edited file: the example of docs/add-an-operator.md, as a
reader would type it, in a copy of the tree."""
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(os.environ["MLX_KD_SOURCE_DIR"])
BUILD = Path(os.environ["MLX_KD_BUILD_DIR"])
BLOCK = re.compile(r"^`(mlx_kd/kernels/[^`]+)`:\n+```cpp\n(.*?)^```", re.MULTILINE | re.DOTALL)
PARTS = ("CMakeLists.txt", "CMakePresets.json", "cmake", "mlx_kd")


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL)


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
        cls.built = cls.build()
        cls.kd = cls.temp / "build" / "kd"

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

    def test_it_is_searched(self):
        out = self.temp / "run"
        result = run(self.kd, "run", "--op", "scale", "--device", "null", "--budget", "8", "--out", out)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        records = [json.loads(line) for line in (out / "run.ndjson").read_text().splitlines()]
        self.assertEqual(sum("step" in record for record in records), 8)


if __name__ == "__main__":
    unittest.main()
