"""The package in a free-threaded Python: the extension is built for it, and the tests of threads run in it.

With --long. The Python is MLX_KD_FREE_THREADED_PYTHON, or python3.14t or python3.13t on PATH, with its headers; MLX and
nanobind come from the package index, in a virtual environment of the test's own. A message names what is missing.
"""
import os
import shutil
import subprocess
import sys
import unittest

from tests.support.package import BUILD, CMAKE, LONG, PREFIX, SOURCE, PackageTest, temporary_folder

PROJECT = """cmake_minimum_required(VERSION 3.25)
project(free_threaded LANGUAGES CXX)
set(CMAKE_CXX_STANDARD 20)
find_package(Python 3.13 REQUIRED COMPONENTS Interpreter Development.Module)
execute_process(COMMAND "${Python_EXECUTABLE}" -m nanobind --cmake_dir OUTPUT_VARIABLE nanobind_ROOT
  OUTPUT_STRIP_TRAILING_WHITESPACE)
execute_process(COMMAND "${Python_EXECUTABLE}" -m mlx --cmake-dir OUTPUT_VARIABLE mlx OUTPUT_STRIP_TRAILING_WHITESPACE)
find_package(nanobind CONFIG REQUIRED)
file(GLOB sources "${SOURCE}/mlx_kd/python/*.cpp")
nanobind_add_module(_core NB_STATIC FREE_THREADED NB_DOMAIN mlx ${sources} "${BUILD}/generated/python_operators.cpp")
set_target_properties(_core PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0 BUILD_RPATH "${LIBRARY}")
target_include_directories(_core PRIVATE "${SOURCE}" "${BUILD}/generated/include")
target_include_directories(_core SYSTEM PRIVATE "${NB_DIR}/include" "${mlx}/include")
target_link_libraries(_core PRIVATE "${LIBRARY}/libmlx_kd${CMAKE_SHARED_LIBRARY_SUFFIX}"
  "${mlx}/lib/libmlx${CMAKE_SHARED_LIBRARY_SUFFIX}")
"""
BACK_END = "mlx-metal" if sys.platform == "darwin" else "mlx-cpu"


def found():
    given = os.environ.get("MLX_KD_FREE_THREADED_PYTHON")
    return given or shutil.which("python3.14t") or shutil.which("python3.13t")


def call(*command, **variables):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          cwd=SOURCE, env={**os.environ, **{key: str(value) for key, value in variables.items()}})


@unittest.skipUnless(LONG, "--long builds the extension for a free-threaded Python")
class FreeThreaded(PackageTest):
    def environment(self, folder):
        """A Python in a virtual environment that has what the extension and the tests need."""
        python = found()
        if not python:
            self.skipTest("there is no free-threaded Python: put python3.14t or python3.13t on PATH, or set "
                          "MLX_KD_FREE_THREADED_PYTHON to one")
        asked = call(python, "-c", "import sysconfig, os; print(sysconfig.get_config_var('Py_GIL_DISABLED'), "
                     "os.path.exists(sysconfig.get_paths()['include'] + '/Python.h'))")
        self.assertEqual(asked.returncode, 0, asked.stderr)
        if asked.stdout.split() != ["1", "True"]:
            self.skipTest(f"{python} has the interpreter's lock, or no headers: Py_GIL_DISABLED and Python.h are "
                          f"{asked.stdout.strip()}")
        made = call(python, "-m", "venv", folder)
        self.assertEqual(made.returncode, 0, made.stdout + made.stderr)
        python = folder / "bin" / "python"
        lines = (SOURCE / "requirements.txt").read_text().splitlines()
        pinned = {line.split("==")[0]: line for line in lines if "==" in line}
        got = call(python, "-m", "pip", "install", "-q", "--only-binary=:all:", "--no-deps",
                   *(pinned[name] for name in ("mlx", BACK_END, "nanobind", "mlx-lm")))
        if got.returncode != 0:
            self.skipTest(f"pip finds no wheels for {python}: {got.stderr.strip().splitlines()[-1]}")
        return python

    def test_threads_in_it(self):
        folder = temporary_folder(self)
        python = self.environment(folder / "venv")
        site = folder / "site"
        shutil.copytree(PREFIX, site / "mlx_kd", ignore=shutil.ignore_patterns("_core.cpython*", "__pycache__"))
        (folder / "CMakeLists.txt").write_text(PROJECT)
        build = call(CMAKE, "-S", folder, "-B", folder / "build", "-DCMAKE_BUILD_TYPE=Release",
                     "-DCMAKE_CXX_FLAGS_RELEASE=-O1", f"-DPython_EXECUTABLE={python}", f"-DSOURCE={SOURCE}",
                     f"-DBUILD={BUILD}", f"-DLIBRARY={site}/mlx_kd/lib")
        self.assertEqual(build.returncode, 0, build.stdout + build.stderr)
        build = call(CMAKE, "--build", folder / "build")
        self.assertEqual(build.returncode, 0, build.stdout[-4000:] + build.stderr[-4000:])
        for module in (folder / "build").glob("_core.*.so"):
            shutil.copy(module, site / "mlx_kd")
        tests = call(python, "-m", "unittest", "-v", "tests.python.threads_test", MLX_KD_SITE=site)
        self.assertEqual(tests.returncode, 0, tests.stdout + tests.stderr)
        self.assertNotIn("skipped", tests.stderr)


if __name__ == "__main__":
    unittest.main()
