"""A small project behind the real front door, so that ./kd is tested without building mlx-kd.

The clone holds the script, tools/front and requirements.txt as they are, a program of a few lines
that prints its folder and arguments, and an environment that only says that MLX is there.
"""
import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(os.environ["MLX_KD_SOURCE_DIR"])
CMAKE_DIR = os.path.dirname(os.environ["MLX_KD_CMAKE"])

CMAKE = """cmake_minimum_required(VERSION 3.25)
project(small LANGUAGES CXX)
enable_testing()
add_executable(kd mlx_kd/cli/main.cpp)
add_test(NAME passes COMMAND kd)
include(cmake/extra.cmake OPTIONAL)
"""
PRESETS = """{"version": 6, "configurePresets": [
  {"name": "release", "generator": "Ninja", "binaryDir": "${sourceDir}/build/${presetName}"},
  {"name": "other", "inherits": "release"}]}
"""
MAIN = """#include <cstdio>
#include <unistd.h>
int main(int argc, char** argv) {
  char folder[4096];
  std::printf("%s\\n", getcwd(folder, sizeof folder));
  for (int i = 1; i < argc; ++i) std::printf("<%s>\\n", argv[i]);
}
"""


def pins():
    lines = (SOURCE / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def make_environment(folder):
    """A virtual environment that claims the pinned wheels."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    for name, version in pins().items():
        info = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (packages / "mlx").mkdir()
    (packages / "mlx" / "__main__.py").write_text("print('/nowhere')\n")


@functools.cache
def commands_without(*hidden):
    """A folder that holds every command of the system but the hidden ones; it goes at exit."""
    folder = tempfile.mkdtemp(prefix="kd_commands_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    commands = {}
    for source in (CMAKE_DIR, "/usr/local/bin", "/usr/bin", "/bin"):
        for name in os.listdir(source) if os.path.isdir(source) else ():
            commands.setdefault(name, os.path.join(source, name))
    for name in commands.keys() - set(hidden):
        os.symlink(commands[name], os.path.join(folder, name))
    return folder


class FrontDoorTest(unittest.TestCase):
    """self.clone is such a project, in a folder whose name has spaces."""

    def setUp(self):
        self.temp = Path(tempfile.mkdtemp(prefix="kd front "))
        self.addCleanup(shutil.rmtree, self.temp, ignore_errors=True)
        self.clone = self.temp / "my clone"
        for name in ("kd", "requirements.txt"):
            self.clone.mkdir(exist_ok=True)
            shutil.copy2(SOURCE / name, self.clone / name)
        shutil.copytree(SOURCE / "tools" / "front", self.clone / "tools" / "front")
        self.write("CMakeLists.txt", CMAKE)
        self.write("CMakePresets.json", PRESETS)
        self.write("mlx_kd/cli/main.cpp", MAIN)
        self.write("cmake/none.cmake", "")
        self.write("tests/none.txt", "")
        make_environment(self.clone / ".venv")

    def write(self, name, text):
        path = self.clone / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def command_dir(self, **scripts):
        """A folder of commands that come before the system's: name=shell text."""
        folder = Path(tempfile.mkdtemp(dir=self.temp))
        for name, text in scripts.items():
            path = folder / name.replace("_", "-")
            path.write_text("#!/bin/sh\n" + text + "\n")
            path.chmod(0o755)
        return folder

    def environment(self, variables):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("KD_", "MLX_KD_"))}
        path = env["PATH"].split(":")
        if CMAKE_DIR not in path:  # PyPI's CMake, on a machine that has none: the environment here only claims it
            env["PATH"] = ":".join([CMAKE_DIR, *path])
        return {**env, **variables}

    def start(self, *arguments, script=None, cwd=None, **environment):
        return subprocess.Popen(
            [str(script or self.clone / "kd"), *arguments], cwd=cwd or self.temp, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, env=self.environment(environment))

    def kd(self, *arguments, **options):
        process = self.start(*arguments, **options)
        process.out, process.err = process.communicate(timeout=300)
        process.code = process.returncode
        return process

    def log(self, name, build="build/release"):
        return (self.clone / build / "front" / f"{name}.log").read_text()
