"""pip install . with every Python that the machine has, 3.10 to 3.14, and an editable install. (./kd test --long)

The wheel of the first Python is built whole, as a user's pip does where no -dev package is, and what docs/python.md
says is done with it; those of the others take the rooms that do not depend on Python from this build.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

from tests.support.package import BUILD, CACHE, LONG, SOURCE, PackageTest, temporary_folder

if not LONG:
    print("skipped: building wheels takes minutes (./kd test --long)")
    sys.exit(77)

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.13t", "3.14t")
PREBUILT = ("--config-settings", f"cmake.define.MLX_KD_PREBUILT={BUILD}")
HIDDEN = tuple(argument for package in ("CLI11", "nlohmann_json") for argument in
               ("--config-settings", f"cmake.define.CMAKE_DISABLE_FIND_PACKAGE_{package}=ON"))
USE = """
import sys, mlx.core as mx, mlx_kd, mlx_kd.nn
assert abs(mlx_kd.nn.RMSNorm(64)(mx.ones((2, 64))).sum().item() - 128) < 1e-3
assert 'rmsnorm' in mlx_kd.op_names() and mlx_kd.settings()['enabled'] is False
assert not hasattr(sys, '_is_gil_enabled') or sys._is_gil_enabled() == ('t' not in sys.abiflags)
try:
    mlx_kd.swiglu(mx.ones(4), mx.ones(5))
except ValueError as error:
    print(error)
"""


def works(program, version):
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2] + ('t' if 't' in sys.abiflags else ''))"
    result = subprocess.run([program, "-c", code], capture_output=True, text=True)
    return result.stdout.strip() == version


def find_python(version):
    """The path of such a Python, on the PATH or among those of pyenv, or None."""
    roots = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    series, free = version.rstrip("t"), version.endswith("t")
    places = [shutil.which(f"python{version}"), *sorted(roots.glob(f"{series}.*{'t' if free else ''}/bin/python"))]
    return next((str(place) for place in places if place and works(place, version)), None)


def header_repositories_answer():
    """Whether what is fetched where no -dev package is can be fetched here."""
    urls = re.findall(r"https://\S+?\.git", (SOURCE / "cmake" / "HeaderLibraries.cmake").read_text())
    ask = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    return all(subprocess.run(["git", "ls-remote", "-q", url, "HEAD"], env=ask, timeout=60,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0 for url in urls)


class Wheel(PackageTest):
    def environment_of(self, program):
        folder = self.folder() / "env"
        self.succeed(program, "-m", "venv", folder)
        return folder / "bin"

    def succeed(self, *command, **variables):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("MLX_KD_", "PYTHON"))}
        env.update({key: str(value) for key, value in {"MLX_KD_CACHE_DIR": CACHE, **variables}.items()})
        result = subprocess.run([str(part) for part in command], cwd=temporary_folder(), env=env, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        self.assertEqual(result.returncode, 0, result.stdout[-6000:])
        return result.stdout

    def check(self, bin_folder):
        self.assertIn("[swiglu]", self.succeed(bin_folder / "python", "-c", USE))
        for name in ("kd", "mlx-kd", "mlx-kernel-discover"):
            self.assertIn("rmsnorm", self.succeed(bin_folder / name, "ops"))
        cmake = self.succeed(bin_folder / "python", "-m", "mlx_kd", "--cmake-dir").strip()
        self.assertTrue((Path(cmake) / "mlx_kdConfig.cmake").exists())

    def check_a_model_made_faster(self, bin_folder):
        """The three commands of docs/python.md, in small."""
        work, example = self.folder(), SOURCE / "examples" / "decode.py"
        self.succeed(bin_folder / "python", example, "--config", work / "model")
        self.succeed(bin_folder / "mlx-kd", "run", "--op", "swiglu", "--model-id", work / "model", "--budget", "10",
                     "--out", work / "q")
        self.succeed(bin_folder / "mlx-kd", "install", "--run", work / "q", "--output", work / "pins.json")
        on = {"MLX_KD_USE_DISCOVERED_KERNELS": 1, "MLX_KD_DISCOVERED_KERNELS_PATH": work / "pins.json"}
        result = json.loads(self.succeed(bin_folder / "python", example, "--json", **on))
        self.assertLessEqual(result["difference"], result["bound"])
        self.assertEqual(result["stats"]["hits"], 16 * 4)  # a gate a layer and token
        self.assertLess(result["ops_us_pinned"], result["ops_us_mlx"])
        self.assertIn("64 calls hit a pin", self.succeed(bin_folder / "python", example, **on))

    def test_wheel_of_this_python_is_built_whole(self):
        folder = self.environment_of(sys.executable)
        hidden = HIDDEN if header_repositories_answer() else ()
        self.succeed(folder / "python", "-m", "pip", "install", *hidden, SOURCE)
        self.check(folder)
        self.check_a_model_made_faster(folder)

    def test_editable_install_follows_the_tree(self):
        folder = self.environment_of(sys.executable)
        self.succeed(folder / "python", "-m", "pip", "install", *PREBUILT, "-e", SOURCE)
        self.check(folder)
        where = self.succeed(folder / "python", "-c", "import mlx_kd.discovery as d; print(d.__file__)").strip()
        self.assertTrue(os.path.samefile(where, SOURCE / "mlx_kd" / "python" / "mlx_kd" / "discovery.py"))


def add_version(version):
    def test(self):
        program = find_python(version)
        if not program:
            self.skipTest(f"this machine has no Python {version} that can make an environment")
        folder = self.environment_of(program)
        self.succeed(folder / "python", "-m", "pip", "install", *PREBUILT, SOURCE)
        self.check(folder)

    setattr(Wheel, f"test_wheel_of_python_{version.replace('.', '_')}_works", test)


for _version in VERSIONS:
    add_version(_version)

if __name__ == "__main__":
    unittest.main(verbosity=2)
