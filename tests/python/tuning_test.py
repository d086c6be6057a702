"""mlx_kd.autotune and mlx_kd.tuned: what runs before and after a setting is proved, and what they refuse."""
import os
import threading
import unittest
import warnings
from pathlib import Path

from tests.support.package import PackageTest

import mlx.core as mx

import mlx_kd
from mlx_kd.tuning import autotuned

mx.set_default_device(mx.cpu)
SOURCE = "uint i = thread_position_in_grid.x; y[i] = x[i] * T({factor});"


def times(factor):
    return lambda x: factor * x


def scale_with(folder, factor=2, reference=times(2), made=None, **options):
    """y = 2 x, right where factor is 2."""
    def scale(x, *, TG):
        if made is not None:
            made.append(TG)
        kernel = mlx_kd.metal_kernel(name="scale", input_names=["x"], output_names=["y"],
                                     source=SOURCE.format(factor=factor))
        return kernel(inputs=[x], template=[("T", x.dtype)], grid=(x.size, 1, 1), threadgroup=(TG, 1, 1),
                      output_shapes=[x.shape], output_dtypes=[x.dtype])[0]

    options = {"knobs": {"TG": [32, 64]}, "reference": reference, "folder": folder, "budget": 2, **options}
    return mlx_kd.autotune(**options)(scale)


class Served(PackageTest):
    def test_the_reference_runs_until_a_setting_is_proved_and_then_the_kernel_does(self):
        folder, made = self.folder(), []
        scale = scale_with(folder, made=made)
        x = mx.arange(64, dtype=mx.float32)
        self.assertTrue(mx.array_equal(scale(x), 2 * x))
        self.assertEqual((made, scale.settings), ([], {}))
        settings = scale.prepare([((64,), mx.float32)])
        self.assertEqual(list(settings), [(((64,), mx.float32),)])
        made.clear()
        self.assertTrue(mx.array_equal(scale(x), 2 * x))
        self.assertEqual(made, [settings[(((64,), mx.float32),)]["TG"]])
        made.clear()
        scale(mx.arange(32, dtype=mx.float32))
        self.assertEqual(made, [])  # another size, of which nothing is proved
        again = scale_with(folder, made=made)
        self.assertEqual(again.settings, settings)
        changed = scale_with(folder, made=made, knobs={"TG": [32, 128]})
        self.assertEqual(changed.settings, {})
        # The function's text is the same, and what it makes is not.
        for other in (scale_with(folder, factor=3), scale_with(folder, reference=times(3))):
            self.assertEqual(other.name, scale.name)
            self.assertEqual(other.settings, {})
            self.assertTrue(mx.array_equal(other(x), other.reference(x)))
        self.found_by_tuned(next(Path(folder).glob("scale_*")) / "pack.json", x)

    def found_by_tuned(self, pack, x):
        """The pack that autotune keeps is one that tuned() calls."""
        kernel = mlx_kd.tuned(pack)
        [line] = kernel.settings
        self.assertRegex(line, r"^float32 i0_0=64: TG=\d+$")
        self.assertTrue(mx.array_equal(kernel(inputs=[x])[0], 2 * x))
        results = []
        threads = [threading.Thread(target=lambda: results.append(kernel(inputs=[x])[0].tolist())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(results, [(2 * x).tolist()] * 4)
        for arrays, words in (([mx.zeros(32)], "no setting is proved for float32 at i0_0=32"),
                              ([mx.zeros(64, mx.float16)], "no setting is proved for float16"), ([x, x], "2 inputs were given")):
            with self.assertRaisesRegex(ValueError, words):
                kernel(inputs=arrays)
        with self.assertRaisesRegex(ValueError, "by the name 'other'"):
            mlx_kd.tuned(pack, "other")
        os.chmod(pack, 0o666)
        with self.assertRaisesRegex(ValueError, "write"):
            mlx_kd.tuned(pack)

    def test_a_kernel_that_is_wrong_is_never_served(self):
        scale = scale_with(self.folder(), factor=3)
        with self.assertRaisesRegex(RuntimeError, "at its defaults .* wrong"):
            scale.prepare([((64,), mx.float32)])
        self.assertEqual(scale.settings, {})
        self.assertEqual(scale(mx.ones(64)).sum().item(), 128)

    def test_defaults_are_served_where_they_are_asked_for(self):
        made = []
        scale = scale_with(self.folder(), made=made, serve="default")
        scale(mx.ones(64))
        self.assertEqual((made, scale.settings), ([32], {}))

    def test_it_can_be_switched_off(self):
        made = []
        scale = scale_with(self.folder(), made=made, serve="default")
        scale.enabled = False
        self.assertEqual(scale(mx.ones(64)).sum().item(), 128)
        self.assertEqual((scale.prepare([((64,), mx.float32)]), made), ({}, []))

    def test_sizes_that_change_at_every_call_do_not_grow_it(self):
        scale = scale_with(self.folder())
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for n in range(1, 2 * autotuned.MOST_SHAPES + 10):
                scale(mx.zeros(n))
        self.assertLessEqual(len(scale._ready), autotuned.MOST_SHAPES)
        self.assertEqual(len([one for one in told if "more than 1024 sizes" in str(one.message)]), 1)

    def test_a_size_that_is_called_is_tuned_in_the_background(self):
        scale = scale_with(self.folder(), background=True, budget=1)
        self.assertEqual(scale(mx.ones(64)).sum().item(), 128)
        scale._worker.join(500)
        if any("took longer" in why for why in scale._failed.values()):
            self.skipTest("this machine is too busy to tune in the background")
        self.assertEqual(list(scale.settings), [(((64,), mx.float32),)])


class Refused(PackageTest):
    def test_a_method(self):
        with self.assertRaisesRegex(TypeError, "is a method"):
            class Layer:
                @mlx_kd.autotune(knobs={"TG": [32]}, reference=lambda x: x)
                def call(self, x, *, TG):
                    return x

    def test_what_is_not_a_function_with_a_name(self):
        for one in (lambda x, *, TG: x, print):
            with self.assertRaisesRegex(TypeError, "decorate a function that def makes"):
                mlx_kd.autotune(knobs={"TG": [32]}, reference=lambda x: x)(one)

    def test_sizes_that_are_no_arrays(self):
        for size in (mx.ones(64), ((8, 64),), [(64, "float32")], [64]):
            with self.assertRaisesRegex(TypeError, r"scale.prepare was given .* in place of an array: give a sequence"):
                scale_with(self.folder()).prepare(size)

    def test_knobs_that_are_none(self):
        for knobs, words in (({}, "has no knobs"), ({"TG": []}, "has no knobs"), ({"N": [1]}, "no parameter of scale"),
                             ({"TG": [1.5]}, "give whole numbers")):
            with self.assertRaisesRegex(ValueError, words):
                scale_with(self.folder(), knobs=knobs)
        with self.assertRaisesRegex(ValueError, "serve is 'never'"):
            scale_with(self.folder(), serve="never")

    def test_functions_that_do_not_make_one_kernel_of_their_arrays(self):
        @mlx_kd.autotune(knobs={"TG": [32]}, reference=lambda x: x, folder=self.folder())
        def none(x, *, TG):
            return x

        with self.assertRaisesRegex(ValueError, "makes 0 calls of a metal_kernel"):
            none.prepare([((64,), mx.float32)])

        @mlx_kd.autotune(knobs={"TG": [32]}, reference=lambda x: x, folder=self.folder())
        def reshaped(x, *, TG):
            kernel = mlx_kd.metal_kernel(name="k", input_names=["x"], output_names=["y"], source="y[0] = x[0];")
            return kernel(inputs=[x.reshape(-1)], grid=(1, 1, 1), threadgroup=(TG, 1, 1), output_shapes=[(1,)],
                          output_dtypes=[x.dtype])[0]

        with self.assertRaisesRegex(ValueError, "is not one of the function's arrays"):
            reshaped.prepare([((8, 8), mx.float32)])

    def test_a_run_without_winners(self):
        with self.assertRaisesRegex(ValueError, "does not exist"):
            mlx_kd.tuned(self.folder())


if __name__ == "__main__":
    unittest.main()
