"""The developers' verbs of ./kd: bench, check, format, hooks."""
import os
import shutil
import subprocess
import unittest

from tests.support.front_door import SOURCE, FrontDoorTest

BENCH = """#include <cstdio>
int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) std::printf("<%s>\\n", argv[i]);
  return 3;
}
"""
CMAKE = """add_executable(bench_speed EXCLUDE_FROM_ALL bench/speed.cpp)
set_target_properties(bench_speed PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bench")
file(WRITE "${CMAKE_BINARY_DIR}/bench_on" "${MLX_KD_BUILD_BENCH}")
"""
TOOLS = ("check_layers", "check_format", "check_lengths", "check_language", "check_docs", "results_page", "room_figure", "api_reference")


class Bench(FrontDoorTest):
    def setUp(self):
        super().setUp()
        self.write("bench/speed.cpp", BENCH)
        self.write("bench/script.py", "")
        self.write("cmake/extra.cmake", CMAKE)

    def test_builds_one_and_runs_it_with_its_arguments_and_status(self):
        result = self.kd("bench", "speed", "--out", "a b")
        self.assertEqual((result.code, result.out), (3, "<--out>\n<a b>\n"), result.err)
        self.assertEqual((self.clone / "build/release/bench_on").read_text(), "ON")
        self.assertFalse((self.clone / "build/release/kd").exists())

    def test_the_second_call_builds_nothing(self):
        self.kd("bench", "speed")
        self.assertEqual(self.kd("bench", "speed").err, "")

    def test_a_changed_benchmark_is_built(self):
        self.kd("bench", "speed")
        self.write("bench/speed.cpp", BENCH.replace("return 3", "return 4"))
        self.assertEqual(self.kd("bench", "speed").code, 4)

    def test_names_that_are_none_are_misuse_and_build_nothing(self):
        for name, words in (("sped", "name one of speed"), ("script", "run it directly"), ("../x", "--help"), ("", "--help")):
            result = self.kd("bench", name)
            self.assertEqual(result.code, 2, name)
            self.assertIn(words, result.err)
        self.assertEqual(self.kd("bench").code, 2)
        self.assertFalse((self.clone / "build").exists())

    def test_help_lists_the_names(self):
        result = self.kd("bench", "--help")
        self.assertEqual(result.code, 0)
        self.assertIn("Names: speed\n", result.out)


class Check(FrontDoorTest):
    def setUp(self):
        super().setUp()
        for name in TOOLS:
            self.write(f"tools/{name}.py", f"import sys\nprint('{name}', *sys.argv[1:2])\n")

    def test_runs_every_check_and_builds_nothing(self):
        result = self.kd("check")
        self.assertEqual(result.code, 0, result.err)
        for line in ("layers: check_layers", "lengths: check_lengths", "language: check_language", "docs: check_docs", "results: results_page --check",
                     "rooms: room_figure --check", "api: api_reference --check"):
            self.assertIn(line + "\n", result.out)
        self.assertFalse((self.clone / "build").exists())

    def test_one_failure_fails_and_the_others_still_run(self):
        self.write("tools/check_layers.py", "print('a room looks up')\nraise SystemExit(1)\n")
        result = self.kd("check")
        self.assertEqual(result.code, 1)
        self.assertIn("layers: a room looks up", result.out)
        self.assertIn("docs: check_docs", result.out)

    def test_a_skipped_check_is_no_failure(self):
        self.write("tools/check_format.py", "print('skipped')\nraise SystemExit(77)\n")
        self.assertEqual(self.kd("check").code, 0)

    def test_format_fixes(self):
        result = self.kd("format")
        self.assertEqual((result.code, result.out), (0, "check_format --fix\n"))

    def test_unknown_options_are_misuse(self):
        for verb in ("check", "format", "hooks"):
            self.assertEqual(self.kd(verb, "--fast").code, 2)
            self.assertEqual(self.kd(verb, "--help").code, 0)


class Hooks(FrontDoorTest):
    """Messages are checked in a small repository of their own."""

    def setUp(self):
        super().setUp()
        shutil.copytree(SOURCE / "tools" / "hooks", self.clone / "tools" / "hooks")
        shutil.copy2(SOURCE / "tools" / "check_language.py", self.clone / "tools")
        self.git("init", "-q")
        self.git("config", "user.name", "a developer")
        self.git("config", "user.email", "developer@example.org")
        self.git("add", "--all", ".", ":!.venv")

    def git(self, *arguments):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        return subprocess.run(["git", *arguments], cwd=self.clone, capture_output=True, text=True, env=environment)

    def commit(self, *message):
        return self.git("commit", "-q", "--allow-empty", *(word for text in message for word in ("-m", text)))

    def assert_refused(self, words, *message):
        result = self.commit(*message)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn(words, result.stderr)

    def test_messages_of_the_form_pass(self):
        self.assertEqual(self.kd("hooks").code, 0)
        for message in (["cli: print the name"], ["mlx_kd/cli, tools: print the name", "Because it was missing."],
                        ["house: rename the rooms"], ["kd: build one target"], ["Merge branch 'x'"], ["fixup! cli: print"]):
            result = self.commit(*message)
            self.assertEqual(result.returncode, 0, result.stderr)

    def test_other_messages_are_refused(self):
        self.kd("hooks")
        self.assert_refused('write the subject as "room:', "Print the name")
        self.assert_refused('write the subject as "room:', "cli print the name")
        self.assert_refused("'nowhere' is not a folder", "nowhere: print the name")
        self.assert_refused("without a full stop", "cli: print the name.")
        self.assert_refused("it has 107", "cli: " + 102 * "x")
        self.assert_refused("'stands'", "cli: print where it stands")
        self.assert_refused("'Nobody'", "cli: print the name", "Nobody saw it.")

    def test_a_second_line_of_the_subject_is_refused(self):
        self.kd("hooks")
        self.assert_refused("blank line", "cli: print the name\nand the size")

    def test_installing_twice_is_fine(self):
        self.kd("hooks")
        self.assertEqual(self.kd("hooks").code, 0)

    def test_a_hook_of_the_users_own_is_left_alone(self):
        own = self.clone / ".git" / "hooks" / "commit-msg"
        own.write_text("#!/bin/sh\n")
        result = self.kd("hooks")
        self.assertEqual(result.code, 2)
        self.assertIn("a hook of your own", result.err)
        self.assertEqual(own.read_text(), "#!/bin/sh\n")

    def test_outside_a_clone_it_is_misuse(self):
        shutil.rmtree(self.clone / ".git")
        self.assertEqual(self.kd("hooks").code, 2)


if __name__ == "__main__":
    unittest.main()
