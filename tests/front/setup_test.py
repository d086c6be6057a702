"""What ./kd does when something is missing: installs it where it may, else says how."""
import os
import shutil
import unittest

from tests.support.front_door import FrontDoorTest, commands_without

USER = 'case $1 in -u) echo 1000 ;; *) echo user ;; esac'
ROOT = "echo 0"
HIDDEN = ("ninja", "apt-get", "id", "sudo")


class Missing(FrontDoorTest):
    def setUp(self):
        super().setUp()
        self.installed = self.temp / "installed"

    def path_without_ninja(self, **scripts):
        apt = f'echo "$@" >>"{self.installed}"'
        folder = self.command_dir(apt_get=apt, **scripts)
        return f"{folder}:{commands_without(*HIDDEN)}"

    def test_user_is_told_the_one_line(self):
        result = self.kd("run", PATH=self.path_without_ninja(id=USER))
        self.assertEqual(result.code, 1)
        self.assertIn("sudo apt-get install -y ninja-build", result.err)
        self.assertFalse(self.installed.exists())

    def test_root_installs_and_learns_what_still_lacks(self):
        result = self.kd("run", PATH=self.path_without_ninja(id=ROOT))
        self.assertEqual(result.code, 1)
        self.assertIn("install -y -q --no-install-recommends", self.installed.read_text())
        self.assertIn("these are missing: ninja-build", result.err)

    def test_yes_agrees_to_sudo(self):
        path = self.path_without_ninja(id=USER, sudo='[ "$1" = -v ] || exec "$@"')
        self.kd("run", PATH=path, KD_YES="1")
        self.assertIn("ninja-build", self.installed.read_text())

    def test_without_apt_names_are_listed(self):
        path = f"{self.command_dir(id=USER)}:{commands_without(*HIDDEN)}"
        result = self.kd("run", PATH=path)
        self.assertEqual(result.code, 1)
        self.assertIn("your package manager", result.err)

    def test_compiler_that_is_too_old_is_missing(self):
        old = self.command_dir(id=USER, old_cc="echo kd_missing g++")
        result = self.kd("run", CXX=str(old / "old-cc"), PATH=f"{old}:{commands_without(*HIDDEN)}")
        self.assertEqual(result.code, 1)
        self.assertIn("g++", result.err)


class NoNetwork(FrontDoorTest):
    def test_failed_download_says_what_and_how_to_go_on(self):
        shutil.rmtree(self.clone / ".venv")
        variables = {key: "http://127.0.0.1:9/" for key in ("PIP_INDEX_URL", "http_proxy", "https_proxy")}
        result = self.kd("run", PIP_RETRIES="0", PIP_FIND_LINKS="", PIP_CONFIG_FILE=os.devnull, **variables)
        self.assertEqual(result.code, 1)
        self.assertIn("Getting mlx", result.err)
        self.assertIn("KD_VENV", result.err)
        self.assertIn("wheels.log", result.err)


class NeedsOfTheTests(FrontDoorTest):
    def setUp(self):
        super().setUp()
        self.offline = dict(PIP_INDEX_URL="http://127.0.0.1:9/", PIP_RETRIES="0", PIP_FIND_LINKS="",
                            PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1")
        for info in (self.clone / ".venv").glob("lib/python*/site-packages/nanobind-*"):
            shutil.rmtree(info)

    def test_the_program_asks_for_nothing_of_the_tests(self):
        self.assertEqual(self.kd("run", **self.offline).code, 0)

    def test_the_tests_get_what_the_extension_is_built_with(self):
        self.kd("run", **self.offline)
        result = self.kd("test", **self.offline)
        self.assertEqual(result.code, 1)
        self.assertIn("nanobind", result.err)

    def test_a_sanitizer_does_without_the_extension(self):
        presets = (self.clone / "CMakePresets.json").read_text().replace('"other"', '"tsan"')
        self.write("CMakePresets.json", presets)
        result = self.kd("test", KD_PRESET="tsan", **self.offline)
        self.assertEqual(result.code, 0, result.err)

    def test_python_without_headers_is_named_where_the_tests_need_them(self):
        for python in (self.clone / ".venv" / "bin").glob("python*"):
            python.unlink()
        bare = '[ "$1" = -c ] && case $2 in *Python.h*) exit 1 ;; esac\nexec python3 "$@"'
        (self.clone / ".venv" / "bin" / "python").write_text(f"#!/bin/sh\n{bare}\n")
        (self.clone / ".venv" / "bin" / "python").chmod(0o755)
        path = f"{self.command_dir(id=USER)}:{commands_without('apt-get', 'id', 'sudo')}"
        result = self.kd("test", PATH=path)
        self.assertEqual(result.code, 1)
        self.assertIn("python3-dev", result.err)


if __name__ == "__main__":
    unittest.main()
