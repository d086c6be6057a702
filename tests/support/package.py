"""The Python package as an installed one: what the build made, installed into a folder of its own.

Importing this puts that folder before all others on sys.path, so that `import mlx_kd` is the package. Where
the build has no extension (a sanitizer's, or nanobind is missing) it skips the whole test with a message.
"""
import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(os.environ["MLX_KD_SOURCE_DIR"])
BUILD = Path(os.environ["MLX_KD_BUILD_DIR"])
CMAKE = os.environ["MLX_KD_CMAKE"]
LONG = bool(os.environ.get("MLX_KD_LONG"))

if os.environ.get("MLX_KD_PACKAGE") != "ON":
    print("skipped: this build has no Python extension (./kd test builds it)")
    sys.exit(77)


def temporary_folder(test=None):
    folder = Path(tempfile.mkdtemp(prefix="kd_package_"))
    (test.addCleanup if test else atexit.register)(shutil.rmtree, folder, ignore_errors=True)
    return folder


def install():
    """Folder of site-packages' kind with mlx_kd in it, laid out as the wheel lays it out."""
    site = temporary_folder()
    prefix = site / "mlx_kd"
    subprocess.run([CMAKE, "--install", BUILD, "--component", "mlx_kd", "--prefix", prefix], check=True,
                   stdout=subprocess.DEVNULL)
    shutil.copytree(SOURCE / "mlx_kd" / "python" / "mlx_kd", prefix, dirs_exist_ok=True)
    return site


SITE = Path(os.environ["MLX_KD_SITE"]) if "MLX_KD_SITE" in os.environ else install()  # given: it has the package
PREFIX = SITE / "mlx_kd"
CACHE = os.environ.get("MLX_KD_CACHE_DIR") or SITE / "cache"  # of kernels: ./kd test has one for all tests
sys.path.insert(0, str(SITE))


def environment(**variables):
    """For child processes: the package is found, and no setting of the caller's leaks in."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MLX_KD_", "ZMLX_", "KD_"))}
    given = {key: str(value) for key, value in variables.items()}
    return {**env, "PYTHONPATH": str(SITE), "MLX_KD_CACHE_DIR": str(CACHE), **given}


for _name in [key for key in os.environ if key.startswith(("MLX_KD_USE", "MLX_KD_DISC", "ZMLX_"))]:
    del os.environ[_name]
os.environ["MLX_KD_CACHE_DIR"] = str(CACHE)


def run(*command, **variables):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          env=environment(**variables))


def python(code, **variables):
    return run(sys.executable, "-c", code, **variables)


class PackageTest(unittest.TestCase):
    def folder(self):
        return temporary_folder(self)

    def assert_succeeds(self, result):
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout
