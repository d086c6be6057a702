"""The operators from Python: MLX's bits without pins, errors that say what is wrong."""
import threading
import unittest

from tests.support.package import PackageTest, python

import mlx.core as mx
import mlx.nn

import mlx_kd
import mlx_kd.nn


def random(*shape, dtype=mx.float32):
    return mx.random.normal(shape).astype(dtype)


class Results(PackageTest):
    def assert_same(self, got, wanted):
        self.assertEqual((got.shape, got.dtype), (wanted.shape, wanted.dtype))
        self.assertTrue(mx.array_equal(got, wanted, equal_nan=True).item())

    def test_rmsnorm_is_that_of_mlx(self):
        for dtype in (mx.float32, mx.float16, mx.bfloat16):
            x, w = random(2, 3, 64, dtype=dtype), random(64, dtype=dtype)
            self.assert_same(mlx_kd.rmsnorm(x, w, 1e-5), mx.fast.rms_norm(x, w, 1e-5))

    def test_rmsnorm_residual_returns_norm_and_sum(self):
        x, r, w = random(4, 64), random(4, 64), random(64)
        y, updated = mlx_kd.rmsnorm_residual(x, r, w, eps=1e-6)
        self.assert_same(updated, x + r)
        self.assert_same(y, mx.fast.rms_norm(x + r, w, 1e-6))

    def test_swiglu_is_silu_times_up_by_both_names(self):
        gate, up = random(2, 96), random(2, 96)
        self.assert_same(mlx_kd.swiglu(gate, up), gate * mx.sigmoid(gate) * up)
        self.assertIs(mlx_kd.swiglu2, mlx_kd.swiglu)
        self.assertIs(mlx_kd.nn.swiglu2, mlx_kd.swiglu)

    def test_rope_rotates_pairs_and_appends(self):
        q_nope, q_rope, kv_nope, k_rope = random(1, 2, 1, 8), random(1, 2, 1, 4), random(1, 1, 1, 8), random(1, 1, 1, 4)
        cos, sin = random(2), random(2)
        q, k = mlx_kd.rope_concat_qk_decode_pos(q_nope, q_rope, kv_nope, k_rope, cos, sin)
        for out, nope, rope in ((q, q_nope, q_rope), (k, kv_nope, k_rope)):
            a, b = rope[..., 0::2], rope[..., 1::2]
            turned = mx.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(rope.shape)
            self.assertTrue(mx.allclose(out, mx.concatenate([nope, turned], -1), atol=1e-6).item())

    def test_an_int_may_stand_for_an_array_of_one(self):
        cache, new = mx.zeros((1, 2, 8, 16)), random(1, 2, 3, 16)
        wanted = mlx_kd.kv_append(cache, cache, new, new, mx.array([5], mx.int32))
        for offset in (5, mx.array([5], mx.int32), type("Five", (), {"__index__": lambda self: 5})()):
            for got, want in zip(mlx_kd.kv_append(cache, cache, new, new, offset), wanted):
                self.assert_same(got, want)
        self.assertTrue(mx.array_equal(wanted[0][:, :, 5:], new).item())
        for offset in (-1, 6, 2 ** 40):
            with self.assertRaisesRegex(ValueError, rf"\[kv_append\] offset is {offset}: give 0 to 5"):
                mlx_kd.kv_append(cache, cache, new, new, offset)
        for offset in (1.0, None, "1", 2 ** 70):
            with self.assertRaises(TypeError):
                mlx_kd.kv_append(cache, cache, new, new, offset)
        with self.assertRaisesRegex(ValueError, "offset has type float32"):
            mlx_kd.kv_append(cache, cache, new, new, mx.array([1.0]))
        self.assertIn("int | mlx.core.array", mlx_kd.kv_append.__nb_signature__[0][0])

    def test_call_runs_each_operator_by_its_name(self):
        x, w = random(1, 64), random(64)
        self.assertLessEqual({"rmsnorm", "rmsnorm_residual", "rope", "swiglu"}, set(mlx_kd.op_names()))
        self.assert_same(mlx_kd.call("rmsnorm", [x, w], {"eps": 1e-5})[0], mlx_kd.rmsnorm(x, w, 1e-5))

    def test_stream_is_taken(self):
        x, w = random(1, 64), random(64)
        self.assert_same(mlx_kd.rmsnorm(x, w, stream=mx.cpu), mx.fast.rms_norm(x, w, 1e-6))

    def test_gradient_is_that_of_mlx(self):
        x, w = random(3, 64), random(64)
        ours = mx.grad(lambda x: mlx_kd.rmsnorm(x, w, 1e-6).sum())(x)
        theirs = mx.grad(lambda x: mx.fast.rms_norm(x, w, 1e-6).sum())(x)
        self.assertTrue(mx.allclose(ours, theirs, atol=1e-6).item())

    def test_compile_and_vmap_work(self):
        x, w = random(3, 2, 64), random(64)
        wanted = mx.fast.rms_norm(x, w, 1e-6)
        self.assertTrue(mx.allclose(mx.compile(mlx_kd.rmsnorm)(x, w), wanted, atol=1e-6).item())
        self.assertTrue(mx.allclose(mx.vmap(lambda row: mlx_kd.rmsnorm(row, w))(x), wanted, atol=1e-6).item())

    def test_module_takes_the_weights_of_mlx(self):
        theirs, ours = mlx.nn.RMSNorm(64, eps=1e-5), mlx_kd.nn.RMSNorm(64, eps=1e-5)
        theirs.weight = random(64)
        ours.load_weights(list(theirs.parameters().items()))
        x = random(2, 64)
        self.assert_same(ours(x), theirs(x))

    def test_threads_may_call_at_once(self):
        wrong = []

        def work():
            with mx.stream(mx.new_stream(mx.cpu)):
                x, w = mx.ones((1, 64)), mx.ones(64)
                for _ in range(20):
                    if abs(mlx_kd.rmsnorm(x, w).sum().item() - 64) > 1e-3:
                        wrong.append(1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])


class DefaultKernels(PackageTest):
    def setUp(self):
        self.addCleanup(mlx_kd.reset_settings)
        mlx_kd.reset_stats()

    def test_they_run_without_a_pin_and_are_counted(self):
        mlx_kd.configure(default_kernels=["rmsnorm"])
        x, w = random(3, 96), random(96)
        self.assertTrue(mx.allclose(mlx_kd.rmsnorm(x, w), mx.fast.rms_norm(x, w, 1e-6), atol=1e-5).item())
        stats = mlx_kd.stats()
        self.assertEqual((stats["defaults"], stats["misses"], stats["calls"]), (1, 0, 1))
        self.assertEqual(stats["by_default"], [{"op": "rmsnorm", "dtype": "float32", "shape": "rows=3,D=96", "calls": 1}])
        self.assertTrue(mlx_kd.explain("rmsnorm", [x, w])["by_default"])
        self.assertEqual(mlx_kd.settings()["default_kernels"], ["rmsnorm"])

    def test_without_a_compiler_mlx_runs_and_explain_says_why(self):
        code = ("import mlx.core as mx, mlx_kd\nmlx_kd.configure(default_kernels=['rmsnorm'])\n"
                "x, w = mx.ones((2, 8)), mx.ones(8)\nprint(mlx_kd.rmsnorm(x, w).sum().item())\n"
                "print(mlx_kd.stats()['defaults'], mlx_kd.explain('rmsnorm', [x, w])['reason'])")
        printed = self.assert_succeeds(python(code, PATH="/nowhere", CXX="", MLX_KD_CACHE_DIR=self.folder()))
        value, why = printed.splitlines()
        self.assertAlmostEqual(float(value), 16, places=3)
        self.assertRegex(why, "^0 .*MLX's form runs: its kernel cannot be used: ")

    def test_unknown_operator_is_refused(self):
        with self.assertRaisesRegex(ValueError, "default_kernels names 'no_such_op'"):
            mlx_kd.configure(default_kernels=["no_such_op"])


class Misuse(PackageTest):
    def assert_refused(self, pattern, function, *arguments, **options):
        with self.assertRaisesRegex(ValueError, pattern):
            function(*arguments, **options)

    def test_mismatched_shapes_are_both_shown(self):
        self.assert_refused(r"\(?64\)?.*\(?32\)?|32.*64", mlx_kd.rmsnorm, random(2, 64), random(32))
        self.assert_refused("64.*32|32.*64", mlx_kd.swiglu, random(2, 64), random(2, 32))

    def test_eps_that_is_no_positive_number_is_refused(self):
        for eps in (0, -1e-6, float("nan"), float("inf")):
            self.assert_refused("eps", mlx_kd.rmsnorm, random(2, 64), random(64), eps)

    def test_scalar_is_refused(self):
        self.assert_refused("rmsnorm", mlx_kd.rmsnorm, mx.array(1.0), random(1))

    def test_odd_rope_and_two_positions_are_refused(self):
        parts = random(1, 2, 1, 8), random(1, 2, 1, 3), random(1, 1, 1, 8), random(1, 1, 1, 3)
        self.assert_refused("rope", mlx_kd.rope_concat_qk_decode_pos, *parts, random(1), random(1))
        parts = random(1, 2, 2, 8), random(1, 2, 2, 4), random(1, 1, 2, 8), random(1, 1, 2, 4)
        self.assert_refused("rope", mlx_kd.rope_concat_qk_decode_pos, *parts, random(2), random(2))

    def test_unknown_operator_number_and_count_are_refused(self):
        x, w = random(1, 64), random(64)
        self.assert_refused("no_such_op", mlx_kd.call, "no_such_op", [x])
        self.assert_refused("epsilon", mlx_kd.call, "rmsnorm", [x, w], {"epsilon": 1.0})
        self.assert_refused("rmsnorm", mlx_kd.call, "rmsnorm", [x])

    def test_what_is_no_array_is_a_type_error(self):
        with self.assertRaises(TypeError):
            mlx_kd.rmsnorm([1.0, 2.0], random(2))

    def test_variable_that_is_neither_on_nor_off_is_an_error_of_the_first_call(self):
        code = ("import mlx.core as mx, mlx_kd\ntry:\n    mlx_kd.rmsnorm(mx.ones((1, 8)), mx.ones(8))\n"
                "except ValueError as error:\n    print(error)")
        printed = self.assert_succeeds(python(code, MLX_KD_USE_DISCOVERED_KERNELS="perhaps"))
        self.assertIn("MLX_KD_USE_DISCOVERED_KERNELS is 'perhaps': set it to 1 or 0", printed)

    def test_weight_of_another_type_gives_what_mlx_gives(self):
        x, w = random(2, 64, dtype=mx.float16), random(64)
        got, wanted = mlx_kd.rmsnorm(x, w, 1e-6), mx.fast.rms_norm(x, w, 1e-6)
        self.assertEqual(got.dtype, wanted.dtype)
        self.assertTrue(mx.array_equal(got, wanted).item())

    def test_settings_that_cannot_be_meant_are_refused(self):
        self.assert_refused("trust", mlx_kd.configure, trust="nobody")
        self.assert_refused("/no/such/pack.json", mlx_kd.enable, "/no/such/pack.json")
        self.assertFalse(mlx_kd.settings()["enabled"])


if __name__ == "__main__":
    unittest.main()
