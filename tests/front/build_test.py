"""What ./kd builds, where, and when it builds nothing."""
import os
import shutil
import signal
import time
import unittest

from tests.support.front_door import FrontDoorTest, commands_without

FAILS = "int main() { return missing_name; }\n"


class Build(FrontDoorTest):
    def test_first_call_builds_and_passes_folder_and_arguments_on(self):
        result = self.kd("run", "--out", "a b", "")
        self.assertEqual(result.code, 0, result.err)
        self.assertEqual(result.out, f"{os.path.realpath(self.temp)}\n<run>\n<--out>\n<a b>\n<>\n")
        self.assertIn("[1/2] configuring", result.err)
        self.assertIn("[2/2] building kd", result.err)

    def test_second_call_says_and_starts_nothing(self):
        self.kd("run")
        touched = (self.clone / "build/release/front/build.log").stat().st_mtime_ns
        result = self.kd("run")
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertEqual((self.clone / "build/release/front/build.log").stat().st_mtime_ns, touched)

    def test_changed_source_is_built_without_configuring(self):
        self.kd("run")
        self.write("mlx_kd/cli/main.cpp", 'extern "C" int puts(const char*);\nint main() { puts("new"); }\n')
        result = self.kd("run")
        self.assertEqual(result.out, "new\n")
        self.assertIn("[1/1] building", result.err)

    def test_removed_file_is_noticed(self):
        extra = self.write("mlx_kd/cli/extra.cpp", "")
        self.kd("run")
        extra.unlink()
        self.assertIn("building", self.kd("run").err)

    def test_symlink_to_the_script_works(self):
        link = self.temp / "kd link"
        link.symlink_to("my clone/kd")
        self.assertEqual(self.kd("x", script=link, cwd="/").out, "/\n<x>\n")

    def test_moved_clone_is_built_again(self):
        self.kd("run")
        moved = self.temp / "moved"
        shutil.move(self.clone, moved)
        result = self.kd("run", script=moved / "kd")
        self.assertEqual(result.code, 0, result.err)

    def test_places_are_overridden(self):
        shutil.move(self.clone / ".venv", self.temp / "env")
        result = self.kd("run", KD_BUILD_DIR="out dir", KD_VENV="env", KD_PRESET="other")
        self.assertEqual(result.code, 0, result.err)
        self.assertTrue((self.temp / "out dir" / "kd").exists())
        self.assertFalse((self.clone / "build").exists())

    def test_unknown_preset_is_misuse(self):
        result = self.kd("run", KD_PRESET="fast")
        self.assertEqual(result.code, 2)
        self.assertIn("KD_PRESET=fast", result.err)

    def test_build_folder_of_another_clone_is_left_alone(self):
        out = self.temp / "out"
        out.mkdir()
        (out / "CMakeCache.txt").write_text("CMAKE_HOME_DIRECTORY:INTERNAL=/elsewhere\n")
        result = self.kd("run", KD_BUILD_DIR=str(out))
        self.assertEqual(result.code, 2)
        self.assertIn("/elsewhere", result.err)

    def test_failed_step_names_its_log_and_shows_its_end(self):
        self.write("mlx_kd/cli/main.cpp", FAILS)
        result = self.kd("run")
        self.assertEqual((result.code, result.out), (1, ""))
        self.assertIn(str(self.clone / "build/release/front/build.log"), result.err)
        self.assertIn("missing_name", result.err)

    def test_call_after_a_failure_goes_on(self):
        main = (self.clone / "mlx_kd/cli/main.cpp").read_text()
        self.write("mlx_kd/cli/main.cpp", FAILS)
        self.kd("run")
        self.write("mlx_kd/cli/main.cpp", main)
        self.assertEqual(self.kd("run").code, 0)

    def test_two_at_once_build_once(self):
        both = [self.start("run"), self.start("run")]
        errors = [process.communicate(timeout=300)[1] for process in both]
        self.assertEqual([process.returncode for process in both], [0, 0], errors)
        self.assertEqual(sum("building kd with" in text for text in errors), 1, errors)

    def test_two_at_once_build_once_without_flock(self):
        hidden = commands_without("flock")
        both = [self.start("run", PATH=hidden), self.start("run", PATH=hidden)]
        errors = [process.communicate(timeout=300)[1] for process in both]
        self.assertEqual([process.returncode for process in both], [0, 0], errors)
        self.assertEqual(sum("building kd with" in text for text in errors), 1, errors)

    def test_lock_of_a_dead_process_is_taken_over(self):
        lock = self.clone / "build/release/front/lock.d"
        lock.mkdir(parents=True)
        (lock / "pid").write_text("999999999\n")
        result = self.kd("run", PATH=commands_without("flock"))
        self.assertEqual(result.code, 0, result.err)
        self.assertFalse(lock.exists())

    def test_interrupt_ends_the_step_with_130(self):
        mark = self.temp / "started"
        self.write("cmake/extra.cmake", f'add_custom_target(slow COMMAND touch "{mark}" COMMAND sleep 300)\n'
                                        "add_dependencies(kd slow)\n")
        process = self.start("run")
        while not mark.exists() and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=60)  # ends only when the sleep lets go of the streams
        self.assertEqual(process.returncode, 130, error)
        self.assertIn("interrupted", error)

    def test_help_before_the_first_build_builds_nothing(self):
        self.write("mlx_kd/cli/verbs/report.cpp", "")
        result = self.kd("--help")
        self.assertEqual(result.code, 0)
        self.assertIn(" report", result.out)
        self.assertIn("test [--long]", result.out)
        self.assertFalse((self.clone / "build").exists())


class Test(FrontDoorTest):
    def test_runs_the_tests_and_ends_with_their_status(self):
        result = self.kd("test")
        self.assertEqual(result.code, 0, result.err)
        self.assertRegex(result.out, r"100% tests passed(, 0 tests failed)? out of 1")  # the words of CTest 3 and 4

    def test_the_ten_slowest_tests_are_listed(self):
        tests = [f'add_test(NAME "quick {i}" COMMAND true)\n' for i in range(12)]
        self.write("cmake/extra.cmake", "".join(tests) + 'add_test(NAME "a <b> & c" COMMAND sleep 0.5)\n')
        result = self.kd("test")
        self.assertEqual(result.code, 0, result.err)
        lines = result.out.split("Slowest tests:\n")[1].splitlines()
        self.assertEqual(len(lines), 10, result.out)
        self.assertRegex(lines[0], r"^ +[0-9]+\.[0-9]{2} s  a <b> & c$")

    def test_failed_test_is_shown_and_fails(self):
        self.write("cmake/extra.cmake", "add_test(NAME fails COMMAND sh -c \"echo why it failed; exit 1\")\n")
        result = self.kd("test")
        self.assertNotEqual(result.code, 0)
        self.assertIn("why it failed", result.out)

    def test_kernels_are_compiled_once_for_all_tests_and_not_into_the_users_objects(self):
        self.write("cmake/extra.cmake", "add_test(NAME fails COMMAND sh -c \"env; exit 1\")\n")
        objects = os.path.realpath(self.clone / "build/release/tests/objects")
        self.assertIn(f"MLX_KD_CACHE_DIR={objects}\n", self.kd("test").out)
        self.assertIn("MLX_KD_CACHE_DIR=/mine\n", self.kd("test", MLX_KD_CACHE_DIR="/mine").out)

    def test_only_matching_tests_run(self):
        self.write("cmake/extra.cmake", "add_test(NAME fails COMMAND false)\n")
        self.assertEqual(self.kd("test", "-R", "passes").code, 0)

    def test_expression_that_matches_nothing_fails(self):
        self.assertNotEqual(self.kd("test", "-R", "no_such_test").code, 0)

    def test_bad_options_are_misuse_and_build_nothing(self):
        for arguments in (["--lnog"], ["-R"], ["name"]):
            self.assertEqual(self.kd("test", *arguments).code, 2)
        self.assertFalse((self.clone / "build").exists())

    def test_help_names_the_options(self):
        result = self.kd("test", "--help")
        self.assertEqual(result.code, 0)
        self.assertIn("--long", result.out)


if __name__ == "__main__":
    unittest.main()
