"""run, report, install, pack and suggest_shapes from Python, and the program by its three names."""
import json
import os
import shutil
import signal
import sys
import threading
import unittest

from tests.support.package import PREFIX, SOURCE, PackageTest, run

import mlx_kd

SIZES = "rows=1,D=512"


def null_run(out, **options):
    return mlx_kd.run("rmsnorm", out, **{"shapes": SIZES, "dtype": "float32", "budget": 6, "device": "null", **options})


class Run(PackageTest):
    def test_outcome_names_each_size(self):
        out = self.folder() / "run"
        outcome = null_run(out)
        self.assertEqual(outcome["evaluated"], 6)
        self.assertEqual([size["shape"] for size in outcome["sizes"]], [{"rows": 1, "D": 512}])
        self.assertTrue((out / "best_kernels.json").exists())

    def test_progress_is_called_with_each_record_in_order(self):
        out, seen = self.folder() / "run", []
        null_run(out, progress=seen.append)
        written = [json.loads(line) for line in (out / "run.ndjson").read_text().splitlines()]
        self.assertEqual(len(seen), len(written))
        self.assertEqual(seen, written)

    def test_several_sizes_and_further_options_are_passed_on(self):
        outcome = null_run(self.folder() / "run", shapes=[SIZES, "rows=2,D=512"], strategy="random")
        self.assertEqual([size["shape"]["rows"] for size in outcome["sizes"]], [1, 2])

    def test_resume_goes_on_and_tells_only_what_is_new(self):
        out, seen = self.folder() / "run", []
        null_run(out, budget=4)
        null_run(out, budget=6, resume=True, progress=seen.append)
        self.assertLess(len(seen), len((out / "run.ndjson").read_text().splitlines()))

    def test_misuse_is_a_value_error_with_the_reason(self):
        with self.assertRaisesRegex(ValueError, "no_such_op"):
            mlx_kd.run("no_such_op", self.folder() / "run")
        with self.assertRaisesRegex(ValueError, "no-such-option"):
            null_run(self.folder() / "run", no_such_option=1)
        out = self.folder() / "run"
        null_run(out)
        with self.assertRaisesRegex(ValueError, "run"):
            null_run(out)

    def test_exception_of_the_callback_ends_the_run(self):
        def stop(record):
            raise LookupError("enough")

        with self.assertRaisesRegex(LookupError, "enough"):
            null_run(self.folder() / "run", budget=10000, progress=stop)

    def test_interrupt_ends_the_run_with_keyboard_interrupt(self):
        out = self.folder() / "run"
        timer = []

        def interrupt_soon(record):
            if not timer:
                timer.append(threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)))
                timer[0].start()

        with self.assertRaises(KeyboardInterrupt):
            null_run(out, budget=1000000, progress=interrupt_soon)
        timer[0].join()
        null_run(out, budget=1000000, time_budget="1s", resume=True)


class AfterARun(PackageTest):
    def test_report_is_written_again(self):
        out = self.folder() / "run"
        null_run(out)
        (out / "report.md").unlink()
        self.assertIsInstance(mlx_kd.report(out), dict)
        self.assertTrue((out / "report.md").exists())

    def test_times_of_the_null_device_are_refused_by_install_and_pack(self):
        out = self.folder() / "run"
        null_run(out)
        with self.assertRaisesRegex(ValueError, "null"):
            mlx_kd.install(out, self.folder() / "pins.json")
        with self.assertRaisesRegex(ValueError, "null"):
            mlx_kd.pack([out], self.folder() / "pack.json")

    def test_folder_without_a_run_is_refused(self):
        for function in (mlx_kd.report, lambda path: mlx_kd.install(path, path / "pins.json")):
            with self.assertRaises(ValueError):
                function(self.folder())


class SuggestShapes(PackageTest):
    def test_sizes_come_from_the_config_of_the_example(self):
        folder = self.folder()
        self.assert_succeeds(run(sys.executable, SOURCE / "examples" / "decode.py", "--config", folder))
        found = mlx_kd.suggest_shapes(folder, op="swiglu", decode_rows=[1, 2])
        self.assertEqual([size["rows"] for size in found["ops"]["swiglu"]["sizes"]], [1, 2])

    def test_model_that_is_not_there_is_a_value_error(self):
        with self.assertRaises(ValueError):
            mlx_kd.suggest_shapes(self.folder() / "none")


class Program(PackageTest):
    def test_module_passes_arguments_streams_and_status_on(self):
        version = self.assert_succeeds(run(sys.executable, "-m", "mlx_kd", "--version"))
        self.assertIn(mlx_kd.__version__, version)
        wrong = run(sys.executable, "-m", "mlx_kd", "run", "--op", "no_such_op", "--out", self.folder() / "x")
        self.assertEqual((wrong.returncode, wrong.stdout), (2, ""))
        self.assertIn("no_such_op", wrong.stderr)

    def test_module_says_where_the_cmake_package_is(self):
        printed = self.assert_succeeds(run(sys.executable, "-m", "mlx_kd", "--cmake-dir")).strip()
        self.assertTrue(os.path.samefile(printed, PREFIX / "lib" / "cmake" / "mlx_kd"))

    def test_scripts_of_the_wheel_are_named(self):
        text = (SOURCE / "pyproject.toml").read_text()
        for name in ("kd", "mlx-kd", "mlx-kernel-discover"):
            self.assertIn(f'{name} = "mlx_kd.__main__:main"', text)

    def test_package_that_is_not_whole_says_so(self):
        site = self.folder()
        shutil.copytree(PREFIX, site / "mlx_kd", ignore=shutil.ignore_patterns("bin"))
        result = run(sys.executable, "-m", "mlx_kd", "ops", PYTHONPATH=site)
        self.assertIn("install mlx-kd again", result.stderr)


if __name__ == "__main__":
    unittest.main()
