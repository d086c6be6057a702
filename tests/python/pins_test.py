"""Pins in real programs: a run for a model's sizes, its pack, and the examples that use it."""
import json
import os
import sys
import unittest

from tests.support.package import CMAKE, PREFIX, SOURCE, PackageTest, run, temporary_folder

import mlx.core as mx

import mlx_kd

OPS = ("rmsnorm", "rmsnorm_residual", "swiglu")
EXAMPLE = SOURCE / "examples" / "decode.py"


def make_pack(folder):
    """A pack for the sizes of the example, found here and now; whether each of OPS is in it."""
    run(sys.executable, EXAMPLE, "--config", folder)
    for op in OPS:
        mlx_kd.run(op, folder / op, shapes="auto", model_id=folder, decode_rows=1, dtype="float32", budget=4, claims="quick")
        if not json.loads((folder / op / "best_kernels.json").read_text())["entries"]:
            return False
        mlx_kd.install(folder / op, folder / "pins.json")
    return True


class Pins(PackageTest):
    @classmethod
    def setUpClass(cls):
        cls.pack = temporary_folder() / "pins.json"
        if not make_pack(cls.pack.parent):
            raise unittest.SkipTest("this machine is too busy to claim a speed-up for each operator")

    def setUp(self):
        self.addCleanup(mlx_kd.reset_settings)
        self.on = {"MLX_KD_USE_DISCOVERED_KERNELS": 1, "MLX_KD_DISCOVERED_KERNELS_PATH": self.pack}

    def test_enabled_pin_is_hit_and_keeps_the_result(self):
        x, w = mx.random.normal((1, 1024)), mx.random.normal((1024,))
        mlx_kd.enable(self.pack)
        mlx_kd.reset_stats()
        y = mlx_kd.rmsnorm(x, w)
        self.assertTrue(mx.allclose(y, mx.fast.rms_norm(x, w, 1e-6), rtol=1e-4, atol=1e-5).item())
        self.assertEqual((mlx_kd.stats()["hits"], mlx_kd.settings()["files"]), (1, [str(self.pack)]))

    def test_explain_says_which_pin_and_what_differs(self):
        w = mx.ones(1024)
        mlx_kd.enable(self.pack)
        self.assertTrue(mlx_kd.explain("rmsnorm", [mx.ones((1, 1024)), w])["pinned"])
        other = mlx_kd.explain("rmsnorm", [mx.ones((3, 1024)), w])
        self.assertFalse(other["pinned"])
        self.assertIn("rows", other["differs"])

    def test_prepare_makes_all_pins_ready(self):
        mlx_kd.enable(self.pack)
        self.assertEqual(mlx_kd.prepare(), len(OPS))
        self.assertEqual({pin["state"] for pin in mlx_kd.stats()["pins"]}, {"ready"})

    def test_disabled_pins_are_not_hit(self):
        mlx_kd.enable(self.pack)
        mlx_kd.disable()
        mlx_kd.reset_stats()
        mlx_kd.rmsnorm(mx.ones((1, 1024)), mx.ones(1024))
        self.assertEqual(mlx_kd.stats()["hits"], 0)

    def test_pack_that_others_can_write_is_refused_unless_trusted(self):
        loose = self.folder() / "pins.json"
        loose.write_bytes(self.pack.read_bytes())
        os.chmod(loose, 0o666)
        with self.assertRaisesRegex(ValueError, "pins.json"):
            mlx_kd.enable(loose)
        mlx_kd.configure(enabled=True, path=loose, trust="anyone")
        self.assertTrue(mlx_kd.settings()["enabled"])

    def test_example_decodes_the_same_with_pins_and_says_what_hit(self):
        result = json.loads(self.assert_succeeds(run(sys.executable, EXAMPLE, "--json", "--steps", 4, **self.on)))
        self.assertLessEqual(result["difference"], result["bound"])
        stats = result["stats"]
        self.assertEqual((stats["hits"], stats["misses"], stats["dropped"]), (4 * (4 * 3 + 1), 0, 0))
        self.assertGreater(result["ops_us_mlx"], 0)

    def test_example_without_pins_has_the_very_logits(self):
        result = json.loads(self.assert_succeeds(run(sys.executable, EXAMPLE, "--json", "--steps", 2)))
        self.assertEqual((result["difference"], result["stats"]["hits"]), (0, 0))

    def test_example_in_cpp_is_built_from_the_installed_package_and_hits(self):
        build = self.folder()
        self.assert_succeeds(run(CMAKE, "-S", SOURCE / "examples", "-B", build, "-G", "Ninja",
                                 f"-Dmlx_kd_DIR={PREFIX / 'lib/cmake/mlx_kd'}", "-DCMAKE_BUILD_TYPE=Release"))
        self.assert_succeeds(run(CMAKE, "--build", build))
        printed = self.assert_succeeds(run(build / "decode", **self.on))
        self.assertIn("208 calls hit a pin, 0 missed, 0 fell back", printed)


if __name__ == "__main__":
    unittest.main()
