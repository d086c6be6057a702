"""metal_kernel from Python: as mx.fast.metal_kernel where there is no Mac, and in its place for programs."""
import shutil
import sys
import tempfile
import threading
import unittest
from pathlib import Path

from tests.support.package import PackageTest, python, run, temporary_folder

import mlx.core as mx

import mlx_kd

EXP = """
    uint elem = thread_position_in_grid.x;
    T tmp = inp[elem];
    out[elem] = metal::exp(tmp);
"""

MLX_KERNEL = mx.fast.metal_kernel


def exp(x, kernel=None, **more):
    kernel = kernel or mlx_kd.metal_kernel(name="myexp", input_names=["inp"], output_names=["out"], source=EXP)
    return kernel(inputs=[x], template=[("T", x.dtype)], grid=(x.size, 1, 1), threadgroup=(256, 1, 1),
                  output_shapes=[x.shape], output_dtypes=[x.dtype], **more)[0]


def square_kernel(x):
    kernel = mlx_kd.metal_kernel(name="square", input_names=["a"], output_names=["b"],
                                 source="uint i = thread_position_in_grid.x; b[i] = a[i] * a[i];")
    return kernel(inputs=[x], grid=(x.size, 1, 1), threadgroup=(64, 1, 1), output_shapes=[x.shape],
                  output_dtypes=[x.dtype])[0]


class Calls(PackageTest):
    def setUp(self):
        mx.set_default_device(mx.cpu)

    def test_a_kernel_gives_what_mlx_gives(self):
        for dtype in (mx.float32, mx.float16):
            x = mx.random.normal((4, 16)).astype(dtype)
            self.assertTrue(mx.allclose(exp(x), mx.exp(x), rtol=2e-3).item())

    def test_numbers_are_taken_as_inputs(self):
        kernel = mlx_kd.metal_kernel("scaled", ["a", "by", "n", "yes"], ["b"],
                                     "uint i = thread_position_in_grid.x; b[i] = yes ? a[i] * by + n : 0;")
        y = kernel(inputs=[mx.ones(16), 0.5, 3, True], grid=(16, 1, 1), threadgroup=(16, 1, 1), output_shapes=[(16,)],
                   output_dtypes=[mx.float32])[0]
        self.assertEqual(y.tolist(), [3.5] * 16)

    def test_results_are_lazy_and_compile(self):
        x = mx.random.normal((64,))
        both = mx.compile(lambda x: square_kernel(mx.sin(x)) + 1)
        for _ in range(2):
            self.assertTrue(mx.allclose(both(x), mx.sin(x) ** 2 + 1, atol=1e-6).item())

    def test_custom_function_gives_it_gradients_and_vmap(self):
        @mx.custom_function
        def square(x):
            return square_kernel(x)

        @square.vjp
        def square_vjp(primal, cotangent, output):
            return 2 * primal * cotangent

        @square.vmap
        def square_vmap(x, axis):
            return square_kernel(x), axis

        x = mx.random.normal((32,))
        self.assertTrue(mx.allclose(mx.grad(lambda x: square(x).sum())(x), 2 * x).item())
        rows = mx.random.normal((3, 32))
        self.assertTrue(mx.allclose(mx.vmap(square)(rows), rows ** 2).item())
        self.assertTrue(mx.allclose(mx.vmap(square_kernel, in_axes=1)(rows.T), rows ** 2).item())

    def test_jvp_is_refused_as_around_operations_of_mlx_that_have_none(self):
        """MLX goes through what stands inside a custom_function as well."""
        def told(inside, x):
            @mx.custom_function
            def wrapped(x):
                return inside(x)

            @wrapped.jvp
            def wrapped_jvp(primal, tangent):
                return 2 * primal * tangent

            with self.assertRaises(ValueError) as caught:
                mx.jvp(wrapped, [x], [mx.ones_like(x)])
            return str(caught.exception)

        self.assertEqual(told(square_kernel, mx.ones(32)).replace("square", "Cholesky"),
                         told(mx.linalg.cholesky, mx.eye(3)))

    def test_without_custom_function_there_is_no_gradient(self):
        with self.assertRaises(ValueError):
            mx.eval(mx.grad(lambda x: square_kernel(x).sum())(mx.ones(32)))

    def test_verbose_prints_the_source(self):
        result = self.assert_succeeds(python(
            "import mlx.core as mx, mlx_kd\n"
            "k = mlx_kd.metal_kernel('shown', ['a'], ['b'], 'b[0] = a[0];')\n"
            "k(inputs=[mx.ones(8)], grid=(1,1,1), threadgroup=(1,1,1), output_shapes=[(1,)], "
            "output_dtypes=[mx.float32], verbose=True)"))
        self.assertIn("Generated source code for `custom_kernel_shown`:\n```\n", result)
        self.assertIn("const device float* a [[buffer(0)]]", result)

    def test_another_process_finds_it_on_disk(self):
        code = ("import mlx.core as mx, mlx_kd, time\n"
                "k = mlx_kd.metal_kernel('kept', ['a'], ['b'], 'b[0] = a[0] + 41;')\n"
                "y = k(inputs=[mx.ones(8)], grid=(1,1,1), threadgroup=(1,1,1), output_shapes=[(1,)], "
                "output_dtypes=[mx.float32])[0]\nprint(y.item())")
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        compiler, log = folder / "c++", folder / "calls"
        compiler.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec c++ "$@"\n')
        compiler.chmod(0o755)
        compiles = []
        for _ in range(2):
            result = self.assert_succeeds(python(code, MLX_KD_CXX=str(compiler)))
            self.assertEqual(result.strip(), "42.0")
            compiles.append(log.read_text().count("kernel.cpp"))
        self.assertEqual(compiles, [1, 1])

    def test_threads_share_one_kernel(self):
        results = [None] * 4

        def work(i):
            with mx.stream(mx.new_stream(mx.cpu)):
                x = mx.full((64,), float(i))
                results[i] = square_kernel(x).tolist()

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        self.assertEqual(results, [[float(i * i)] * 64 for i in range(4)])


class Errors(PackageTest):
    def setUp(self):
        mx.set_default_device(mx.cpu)

    def told(self, kind, act):
        with self.assertRaises(kind) as caught:
            act()
        return str(caught.exception)

    def test_are_those_of_mlx_word_for_word(self):
        for make in (lambda of: of("a", ["x"], [], ""),
                     lambda of: of("a", ["x"], ["y"], "", compile_options={"math_mode": "wild"}),
                     lambda of: of("a", ["x"], ["y"], "", compile_options={"maths": "safe"})):
            theirs = self.told(ValueError, lambda: make(MLX_KERNEL))
            self.assertEqual(self.told(ValueError, lambda: make(mlx_kd.metal_kernel)), theirs)
        kernel = mlx_kd.metal_kernel("a", ["x", "y"], ["z"], "z[0] = 1;")
        call = dict(inputs=[mx.ones(8)], grid=(1, 1, 1), threadgroup=(1, 1, 1), output_shapes=[(1,)],
                    output_dtypes=[mx.float32])
        self.assertEqual(self.told(ValueError, lambda: kernel(**call)),
                         "[metal_kernel] Expected `inputs` to have size 2 but got size 1.\n")
        with self.assertRaises(TypeError):
            kernel([mx.ones(8)])

    def test_of_the_source_name_the_line(self):
        kernel = mlx_kd.metal_kernel("bad", ["x"], ["y"], "y[0] = x[0];\ny[1] = missing;")
        message = self.told(ValueError, lambda: kernel(
            inputs=[mx.ones(8)], grid=(1, 1, 1), threadgroup=(1, 1, 1), output_shapes=[(2,)],
            output_dtypes=[mx.float32]))
        self.assertIn("kd_body:2:", message)

    def test_of_template_arguments_name_the_argument(self):
        message = self.told(ValueError, lambda: mlx_kd.metal_kernel("t", ["x"], ["y"], "y[0] = N;")(
            inputs=[mx.ones(8)], template=[("N", "four")], grid=(1, 1, 1), threadgroup=(1, 1, 1), output_shapes=[(2,)],
            output_dtypes=[mx.float32]))
        self.assertIn("Must be `mlx.core.Dtype`, `int` or `bool`", message)


PROGRAM = """
def run(mx, x):
    if not (mx.metal.is_available() and mx.default_device() == mx.gpu):
        return None
    kernel = mx.fast.metal_kernel(name="twice", input_names=["a"], output_names=["b"],
                                  source="uint i = thread_position_in_grid.x; b[i] = 2 * a[i];")
    return kernel(inputs=[x], grid=(x.size, 1, 1), threadgroup=(32, 1, 1), output_shapes=[x.shape],
                  output_dtypes=[x.dtype])[0]
"""


@unittest.skipIf(mx.metal.is_available(), "on a Mac there is nothing to put in place")
class Enabled(PackageTest):
    def setUp(self):
        mx.set_default_device(mx.cpu)
        program = {}
        exec(PROGRAM, program)
        self.program = program["run"]
        self.before = (mx.fast.metal_kernel, mx.metal.is_available, mx.default_device, mx.device_info)

    def tearDown(self):
        self.assertEqual((mx.fast.metal_kernel, mx.metal.is_available, mx.default_device, mx.device_info), self.before)

    def test_puts_the_kernel_in_place_and_back(self):
        enabled = mlx_kd.enable_metal_kernels()
        self.assertIsNot(mx.fast.metal_kernel, MLX_KERNEL)
        self.assertFalse(mx.metal.is_available())
        self.assertIsNone(self.program(mx, mx.ones(32)))
        enabled.disable()
        enabled.disable()
        self.assertIs(mx.fast.metal_kernel, self.before[0])

    def test_lets_guarded_programs_through(self):
        x = mx.random.normal((2, 40))
        with mlx_kd.enable_metal_kernels(report_metal_available=True):
            self.assertTrue(mx.array_equal(self.program(mx, x), 2 * x).item())
        self.assertIsNone(self.program(mx, x))

    def test_comes_back_after_an_error(self):
        with self.assertRaises(KeyError), mlx_kd.enable_metal_kernels(report_metal_available=True):
            raise KeyError

    def test_what_the_calls_serve_keeps_working(self):
        with mlx_kd.enable_metal_kernels(report_metal_available=True):
            device = mx.default_device()
            self.assertTrue(device == mx.cpu and not device != mx.gpu)
            self.assertEqual(device.type, mx.cpu)
            self.assertEqual(mx.zeros(3, stream=device).tolist(), [0, 0, 0])
            with mx.stream(device):
                self.assertEqual((mx.ones(2) + 1).tolist(), [2, 2])
            mx.eval(mx.add(mx.ones(1), 1, stream=mx.default_stream(device)))
            mx.set_default_device(device)
            self.assertEqual(mx.device_info(device)["architecture"], mx.device_info()["architecture"])
            self.assertGreater(mx.device_info()["max_recommended_working_set_size"], 1 << 20)
            loss = mlx_nn_loss()
        self.assertAlmostEqual(loss, mlx_nn_loss(), places=5)

    def test_may_be_enabled_twice_and_undone_in_any_order(self):
        outer, inner = mlx_kd.enable_metal_kernels(True), mlx_kd.enable_metal_kernels()
        outer.disable()
        self.assertIsNot(mx.fast.metal_kernel, MLX_KERNEL)
        self.assertFalse(mx.metal.is_available())
        inner.disable()


def mlx_nn_loss():
    """It asks for the default device to choose between two forms."""
    import mlx.nn
    return mlx.nn.losses.cross_entropy(mx.array([[1.0, 2.0, 3.0]]), mx.array([2])).item()



RACY = """
    uint i = thread_position_in_grid.x, t = thread_position_in_threadgroup.x;
    threadgroup float kept[64];
    kept[t] = a[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float other = kept[63 - t];
    kept[t] = other;
    b[i] = other;
"""


def turned(x, source=RACY, **more):
    kernel = mx.fast.metal_kernel(name="turned", input_names=["a"], output_names=["b"], source=source, **more)
    return kernel(inputs=[x], grid=(x.size, 1, 1), threadgroup=(64, 1, 1), output_shapes=[x.shape],
                  output_dtypes=[x.dtype])[0]


class Watched(PackageTest):
    def setUp(self):
        mx.set_default_device(mx.cpu)

    def test_a_race_is_reported_with_kernel_line_and_threads(self):
        with mlx_kd.enable_metal_kernels(check="races", report=lambda one: None) as kernels:
            for _ in range(2):
                mx.eval(turned(mx.arange(640.0)))
            reports = kernels.reports()
        self.assertEqual([(one["kernel"], one["threadgroups"]) for one in reports], [("turned", 10)])
        self.assertGreaterEqual(reports[0]["watched"], 1)
        self.assertRegex(reports[0]["findings"][0], r"kd_body:6: data race: thread \d+ of threadgroup 0 reads byte \d+ "
                         r"of threadgroup 'kept' and thread \d+ of threadgroup 0 wrote it at kd_body:7")

    def test_an_access_beyond_the_end_is_reported(self):
        found = []
        with mlx_kd.enable_metal_kernels(check="memory", report=found.append):
            mx.eval(turned(mx.arange(64.0), "uint i = thread_position_in_grid.x; b[i] = a[i + 1];"))
        self.assertIn("of 'a', which lies outside", found[0]["findings"][0])

    def test_raise_raises_and_what_is_right_does_not(self):
        with self.assertRaisesRegex(mlx_kd.KernelFault, "kernel 'turned': kd_body:6: data race"):
            with mlx_kd.enable_metal_kernels(check="races", report="raise"):
                mx.eval(turned(mx.arange(64.0)))
        right = RACY.replace("    kept[t] = other;\n", "")
        with mlx_kd.enable_metal_kernels(check="races,memory", report="raise"):
            mx.eval(turned(mx.arange(64.0), right))

    def test_one_kernel_may_be_left_out(self):
        with mlx_kd.enable_metal_kernels(check="races", report="raise") as kernels:
            mx.eval(turned(mx.arange(128.0), check="none"))
            self.assertEqual(kernels.reports(), [])

    def test_bad_words_are_refused_and_nothing_stays_enabled(self):
        for more in (dict(check="locks"), dict(check="races", order="sideways"), dict(report="mail")):
            with self.assertRaises(ValueError):
                mlx_kd.enable_metal_kernels(**more)
        self.assertIs(mx.fast.metal_kernel, MLX_KERNEL)

    def test_run_script_watches_an_unchanged_program(self):
        folder = temporary_folder(self)
        script = folder / "program.py"
        script.write_text("import sys\nimport mlx.core as mx\n"
                          "assert mx.is_available(mx.gpu) and sys.argv[1:] == ['3']\n"
                          f"k = mx.fast.metal_kernel(name='turned', input_names=['a'], output_names=['b'], source={RACY!r})\n"
                          "b = k(inputs=[mx.arange(64.0)], grid=(64, 1, 1), threadgroup=(64, 1, 1), output_shapes=[(64,)],\n"
                          "      output_dtypes=[mx.float32], stream=mx.gpu)[0]\nprint(b[0].item())\n")
        done = run(sys.executable, "-m", "mlx_kd", "run-script", "--check", "races", script, 3)
        self.assertEqual((done.returncode, done.stdout.strip()), (1, "63.0"), done.stderr)
        self.assertIn("kernel 'turned': kd_body:6: data race", done.stderr)
        self.assertIn("1 of 1 threadgroups watched", done.stderr)
        done = run(sys.executable, "-m", "mlx_kd", "run-script", script, 3)
        self.assertEqual(done.returncode, 0, done.stderr)
        done = run(sys.executable, "-m", "mlx_kd", "run-script", "--check", "races,locks", script, 3)
        self.assertEqual(done.returncode, 2)
        self.assertIn("'locks' is not a check: use races, memory or none", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


class NamesOfAMac(PackageTest):
    def test_programs_that_name_the_gpu_run_on_the_cpu(self):
        call = dict(inputs=[mx.arange(64.0)], grid=(64, 1, 1), threadgroup=(64, 1, 1), output_shapes=[(64,)],
                    output_dtypes=[mx.float32])
        with mlx_kd.enable_metal_kernels(report_metal_available=True):
            self.assertTrue(mx.is_available(mx.gpu))
            kernel = mx.fast.metal_kernel(name="turned", input_names=["a"], output_names=["b"], source=RACY)
            for stream in (mx.gpu, mx.new_stream(mx.gpu), None):
                self.assertEqual(kernel(**call, stream=stream)[0][0].item(), 63)
            mx.set_default_device(mx.gpu)
            with mx.stream(mx.gpu):
                self.assertEqual(mx.add(1, 2, stream=mx.gpu).item(), 3)
            self.assertEqual(mx.device_count(mx.gpu), 1)
            self.assertIn("memory_size", mx.device_info(mx.gpu))
        self.assertFalse(mx.is_available(mx.gpu))

    def test_an_export_traces_the_kernel_of_mlx(self):
        path = temporary_folder(self) / "turned.mlxfn"
        with mlx_kd.enable_metal_kernels():
            mx.export_function(str(path), lambda x: turned(x) + 1, mx.arange(64.0))
        self.assertGreater(path.stat().st_size, 0)

    def test_math_mode_is_a_macro(self):
        source = """
            #if defined(__FAST_MATH__)
            b[thread_position_in_grid.x] = 1;
            #else
            b[thread_position_in_grid.x] = 0;
            #endif
        """
        with mlx_kd.enable_metal_kernels():
            for mode, wanted in (("safe", 0), ("fast", 1)):
                made = turned(mx.arange(64.0), source, compile_options={"math_mode": mode})
                self.assertEqual(made[0].item(), wanted)

    def test_contraction_is_switched_off(self):
        a, b = (mx.random.normal((640,), key=mx.random.key(k)) for k in (1, 2))
        source = """
            #pragma clang fp contract(off)
            uint i = thread_position_in_grid.x;
            float p = a[i] * a[i];
            b[i] = p + 0.1f;
        """
        with mlx_kd.enable_metal_kernels():
            square = a * a
            mx.eval(square, b)
            self.assertTrue(mx.array_equal(turned(a, source), square + mx.array(0.1)).item())


if __name__ == "__main__":
    unittest.main()
