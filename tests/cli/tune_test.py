"""kd tune: kernels of users become operators, are proved, searched, pinned and revalidated; and what it refuses."""
import json
import os
import time
import unittest

from tests.support.tuned import LONG, SCALE, SCALE_REFERENCE, SOFTMAX, TuneCase


class Tune(TuneCase):
    def records(self):
        lines = (self.folder / "run" / "run.ndjson").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def test_a_kernel_in_c_is_tuned_and_the_run_holds_its_description(self):
        result = self.tune(shapes="rows=1|3,D=40|41", budget=4)
        self.assertEqual(result.stdout.count("rows="), 4)
        meta = json.loads((self.folder / "run" / "run_meta.json").read_text())
        self.assertEqual(meta["op_name"], "scale_rows")
        self.assertEqual(meta["sizes"], ["rows=1,D=40", "rows=1,D=41", "rows=3,D=40", "rows=3,D=41"])
        self.assertEqual(meta["kernel"]["scalars"], [{"name": "factor", "value": 0.5}])
        self.assertEqual({record["status"] for record in self.records()[:-1]}, {"benchmarked"})
        self.assertTrue((self.folder / "run" / "report.html").exists())

    def test_the_table_ends_with_how_much_faster_than_at_its_defaults_the_kernel_is(self):
        # With UNROLL=0 it also adds numbers that nobody reads, thousands of times per element.
        self.write("scale.cpu.cpp", SCALE.replace("#define UNROLL 4  // knob: 1, 2, 4", "#define UNROLL 0  // knob: 4").replace(
            "knob THREADS 2, 1", "knob THREADS 1").replace("knob GRAIN 4, 1", "knob GRAIN 4").replace("  long i = begin * dims[1];",
            "  long i = begin * dims[1];\n  volatile float sum = 0;\n  if (UNROLL == 0) for (long k = 0; k < 20000; ++k) sum = sum + x[i];"
            ).replace("i + UNROLL <= count; i += UNROLL", "UNROLL > 0 && i + UNROLL <= count; i += UNROLL"))
        table = self.tune().stdout.splitlines()
        self.assertIn("over defaults", table[0])
        row = next(line for line in table if line.startswith("rows=3"))
        self.assertIn("UNROLL=4", row)
        self.assertGreater(float(row.split()[-3].removesuffix("x")), 2)
        defaults = json.loads(self.tune("scale.cpu.cpp", "--json", budget=1, out="defaults").stdout)["sizes"][0]
        self.assertEqual(defaults["speedup_over_default"], 1)

    def test_a_metal_kernel_is_tuned_on_the_executor_and_pinned_for_it(self):
        result = self.tune("softmax.metal", fn="softmax_rows", ref="softmax.py", shapes="rows=2,D=64", budget=2)
        self.assertIn("no GPU here", result.stderr)
        self.assertIn("not compared with MLX", result.stdout)
        [entry] = self.entries()
        self.assertEqual(entry["key"]["device_arch"], "simt")
        self.assertEqual(entry["kernel"]["function"], "softmax_rows")
        self.kd("install", "--run", "run", "--output", "pins.json")
        again = self.kd("revalidate", "pins.json", "--output", "again.json")
        self.assertIn("proved on simt", again.stdout + again.stderr)
        [kept] = json.loads((self.folder / "again.json").read_text())["entries"]
        self.assertEqual(kept["kernel"], entry["kernel"])

    @LONG
    def test_the_type_of_the_macro_follows_dtype(self):
        self.tune("softmax.metal", "--dtype", "bfloat16", fn="softmax_rows", ref="softmax.py", shapes="rows=2,D=64",
                  budget=1)
        self.assertEqual(self.entries()[0]["key"]["dtype"], "bfloat16")

    def test_an_operator_of_the_table_is_a_reference(self):
        norm = "".join(line + "\n" for line in SCALE.splitlines() if not line.startswith(("// kd: in", "// kd: out", "// kd: scalar")))
        self.write("norm.cpu.cpp", norm.replace("scale_rows", "norm").replace(
            "y[i] = x[i] * (float)params[0];",
            "{ double s = 0; long r = i / dims[1]; for (long k = 0; k < dims[1]; ++k) "
            "s += (double)x[r * dims[1] + k] * x[r * dims[1] + k]; y[i] = x[i] * (float)(1 / __builtin_sqrt("
            "s / dims[1] + params[0])) * ((const float*)inputs[1])[i % dims[1]]; }").replace(
            "i + UNROLL <= count", "false && i + UNROLL <= count"))
        self.tune("norm.cpu.cpp", fn="norm", ref="rmsnorm", budget=1)
        self.assertEqual(self.records()[0]["status"], "benchmarked")

    def test_a_kernel_that_is_wrong_at_its_defaults_is_said_first(self):
        self.write("scale.cpu.cpp", SCALE.replace("* (float)params", "+ (float)params"))
        message = self.refused(code=1)
        self.assertIn("at its defaults (GRAIN=4,THREADS=2,UNROLL=4)", message.replace(
            "UNROLL=4,GRAIN=4,THREADS=2", "GRAIN=4,THREADS=2,UNROLL=4"))
        self.assertIn("float64 says", message)

    def test_it_waits_while_a_program_uses_the_device(self):
        (self.folder / "in-use").touch()
        soon = time.time() + 1
        os.utime(self.folder / "in-use", (soon, soon))
        self.tune("scale.cpu.cpp", "--device", "null", "--pause", "in-use", "--batch", 1)
        self.assertGreater(time.time(), soon + 1)

    def test_a_file_that_changes_during_the_run_is_said_and_the_winners_are_of_its_old_text(self):
        self.write("scale.py", SCALE_REFERENCE + f"\n\nopen({str(self.folder / 'scale.cpu.cpp')!r}, 'a').write('// later\\n')\n")
        self.assertIn("scale.cpu.cpp has changed since the run began", self.tune(budget=1).stderr)
        self.assertIn("// later", (self.folder / "scale.cpu.cpp").read_text())
        records = (self.folder / "run" / "run.ndjson").read_text()
        self.assertIn('"source"', records)
        self.assertNotIn("// later", records)

    def test_a_resumed_run_is_of_the_same_text(self):
        self.tune(budget=1)
        self.tune("scale.cpu.cpp", "--resume", budget=2)
        self.write("scale.cpu.cpp", SCALE + "// changed\n")
        self.assertIn("kernel", self.tune("scale.cpu.cpp", "--resume", budget=3, code=2).stderr)


TEMPLATE = """#include <metal_stdlib>
using namespace metal;
constant int STEP [[function_constant(0)]];
template <typename T, int VEC>
[[kernel]] void scaled(const device T* x [[buffer(0)]], device T* y [[buffer(1)]],
                       constant float& factor [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  for (int k = 0; k < VEC * STEP; ++k) y[i * VEC * STEP + k] = T(factor * float(x[i * VEC * STEP + k]));
}
"""
TOML = """function = "scaled"
grid = "rows * D / (VEC * STEP)"
group = 8
reference = "scale.py:scale_rows"
where = ["D % (VEC * STEP) == 0"]
[in]
x = "(rows, D)"
[out]
y = "(rows, D)"
[knobs]
VEC = [1, 2]
STEP = [1, 2]
[scalars]
factor = 0.5
"""
SWITCHED = """// kd: in x (rows, D)
// kd: out y (rows, D)
// kd: grid (rows * D)
// kd: group (8)
// kd: knob has_bias 0
// kd: knob shifted 0
#include <metal_stdlib>
using namespace metal;
constant bool has_bias [[function_constant(0)]];
constant bool shifted [[function_constant(1)]];
constant bool either = has_bias || (is_function_constant_defined(shifted) && shifted);
kernel void twice(device const float* bias [[buffer(0), function_constant(has_bias)]],
                  device const float* x [[buffer(1)]],
                  constant float& shift [[function_constant(either), buffer(2)]], device float* y [[buffer(3)]],
                  uint i [[thread_position_in_grid]],
                  device const float* more [[buffer(4), function_constant(has_bias)]]) {
  y[i] = 2 * x[i] + (has_bias ? bias[i] + more[i] : 0) + (either ? shift : 0);
}
kernel void other(device const float* x [[buffer(0)]], device float* y [[buffer(1), function_constant(shifted)]],
                  uint i [[thread_position_in_grid]]) {
  if (shifted) y[i] = x[i];
}
"""
SEVERAL = """#include <metal_stdlib>
using namespace metal;
// kd: group (TG)
// kd: function twice
// kd: in x (rows, D)
// kd: out y (rows, D)
// kd: grid (rows * D)
// kd: function biased
// kd: in q (rows, D)
// kd: in bias (D)
// kd: out r (rows, D)
// kd: grid (rows * D / VEC)
// kd: scalar eps 1e-5
#ifndef TG
#define TG 16  // knob: 16, 32
#endif
#ifndef VEC
#define VEC 1  // knob: 1, 2
#endif
struct Pair { float first, second; };
constant bool has_bias [[function_constant(3)]];
constant uint STEP [[function_constant(4)]];
kernel void twice(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                  uint i [[thread_position_in_grid]]) {
  y[i] = 2 * x[i];
}
template <typename T>
kernel void biased(device const T* q [[buffer(0)]], device T* r [[buffer(1)]], constant float& eps [[buffer(2)]],
                   device const T* bias [[buffer(3), function_constant(has_bias)]],
                   threadgroup float* shared [[threadgroup(0)]], uint i [[thread_position_in_grid]]) {
  for (uint k = 0; k < VEC * STEP; ++k) r[i + k] = q[i + k] + eps + shared[0] + bias[k];
}
template [[host_name("biased_float")]] kernel decltype(biased<float>) biased<float>;
#define COPY(name, type)                                                                          \\
  kernel void name(device const type* from [[buffer(0)]], device type* to [[buffer(1)]],          \\
                   uint i [[thread_position_in_grid]]) { to[i] = from[i]; }
COPY(copy_pairs, Pair)
COPY(copy_bytes, char)
"""
BODY = """// kd: in x (rows, D)
// kd: out y (rows, D)
// kd: grid (rows * D)
// kd: group (TG)
#ifndef TG
#define TG 16  // knob: 16, 32
#endif
int D = x_shape[1];
uint i = thread_position_in_grid.x;
y[i] = x[(i / D) * x_strides[0] + i % D] * T(x_ndim) / 4;
"""


class Forms(TuneCase):
    def test_template_arguments_and_function_constants_are_knobs_that_a_toml_file_states(self):
        self.write("scaled.metal", TEMPLATE)
        self.write("scaled.toml", TOML)
        self.tune("scaled.metal", "--dtype", "float16", fn="scaled", ref=None, shapes="rows=2,D=8",
                  budget=4)
        lines = [json.loads(line) for line in (self.folder / "run" / "run.ndjson").read_text().splitlines()]
        tried = {tuple(sorted(line["template_params"].items())) for line in lines if "step" in line}
        self.assertEqual(tried, {(("STEP", s), ("VEC", v)) for s in (1, 2) for v in (1, 2)})
        self.assertEqual({line["status"] for line in lines if "step" in line}, {"benchmarked"})

    def test_toml_that_says_something_else_is_refused_with_its_line(self):
        self.write("scaled.metal", TEMPLATE)
        for old, new, words in (("function =", "functoin =", "scaled.toml:1: 'functoin' says nothing to kd"),
                                ("group = 8", "group = [8", "scaled.toml:"), ("VEC = [1, 2]\n", "", "'VEC' has no values")):
            self.write("scaled.toml", TOML.replace(old, new))
            self.assertIn(words, self.refused("scaled.metal", fn="scaled", ref=None, shapes="rows=2,D=8"))

    def switched(self, text, names="x", reference="2 * x", **more):
        self.write("twice.metal", text)
        self.write("twice.py", f"def twice({names}):\n    return {reference}\n")
        return self.tune("twice.metal", fn="twice", ref="twice.py", shapes="rows=2,D=8", **more)

    def test_a_buffer_that_function_constants_switch_off_at_all_their_values_is_left_out(self):
        self.switched(SWITCHED, budget=1)
        [entry] = json.loads((self.folder / "run" / "best_kernels.json").read_text())["entries"]
        self.assertNotIn("function_constant", entry["kernel"]["source"].split("constant bool either")[1])

    def test_one_that_is_on_at_some_value_is_bound(self):
        shift = SWITCHED.replace("shifted 0", "shifted 1").replace("// kd: knob", "// kd: scalar shift 3\n// kd: knob", 1)
        self.switched(shift, names="x, shift", reference="2 * x + shift", budget=1)
        both = SWITCHED.replace("has_bias 0", "has_bias 0, 1")
        self.assertRegex(self.switched(both, budget=1, out="both", code=2).stderr, "'(bias|more)'")

    def several(self, run, text=SEVERAL, fn="twice"):
        self.write("several.metal", text)
        self.write("several.py", "def twice(x):\n    return 2 * x\n")
        return run("several.metal", fn=fn, ref="several.py", shapes="rows=2,D=8")

    def test_of_a_file_of_several_kernels_the_one_that_is_named_is_tuned_without_the_others(self):
        self.several(self.tune)
        [entry] = self.entries()
        self.assertEqual(list(entry["template_params"]), ["TG"])
        self.assertNotRegex(entry["kernel"]["source"], r"kernel void biased|COPY\(copy|\[\[function_constant")

    def test_what_a_kernel_of_several_needs_is_asked_of_the_one_that_is_named(self):
        for fn, old, new, words in (
                (None, "", "", "several.metal describes the kernels 'twice' or 'biased': give one with --fn"),
                ("biased", "", "", "the function constant 'STEP' has no values"),
                ("twice", "#define TG 16  // knob: 16, 32", "#define TG 16", "'twice' uses none of the knobs 'VEC'"),
                ("twice", "out y (rows, D)", "out r (rows, D)", "does not say which shape 'y' has")):
            self.assertIn(words, self.several(self.refused, SEVERAL.replace(old, new), fn))

    def test_textures_of_other_kernels_do_not_matter(self):
        other = SEVERAL + """float4 sampled(texture2d<float> t) { return t.read(uint2(0)); }
kernel void blurred(texture2d<float> t [[texture(0)]], device float4* y [[buffer(0)]]) { y[0] = sampled(t); }
"""
        self.several(self.tune, other)
        [entry] = self.entries()
        self.assertNotIn("texture", entry["kernel"]["source"])
        own = other.replace("kernel void twice(", "kernel void twice(texture2d<float> t [[texture(0)]], ")
        line = next(number for number, text in enumerate(own.splitlines(), 1) if "void twice" in text)
        message = self.several(lambda *given, **more: self.tune(*given, out="none", code=2, **more), own).stderr
        self.assertRegex(message, rf"several\.metal:{line}:\d+: \[\[texture\]\] is not supported")

    @LONG
    def test_a_body_of_a_metal_kernel_has_the_names_that_mlx_gives_it(self):
        self.write("body.metal", BODY)
        self.tune("body.metal", fn="halved", ref="scale.py:half", shapes="rows=2,D=8", budget=1)


class References(TuneCase):
    def ask(self, text, **more):
        self.write("scale.py", text)
        return self.refused(**more)

    def test_one_that_throws_is_named_with_its_line(self):
        message = self.ask("def scale_rows(x, factor):\n    raise ValueError('no such row')\n")
        self.assertIn("scale.py raised ValueError: no such row in line 2 of scale.py", message)

    def test_one_that_returns_another_shape_is_refused(self):
        message = self.ask("def scale_rows(x):\n    return x.sum()\n")
        self.assertIn("returns shape () for output 'y', which has (3, 40)", message)
        self.assertIn("returns 2 arrays where the kernel has 1",
                      self.ask("def scale_rows(x):\n    return x, x\n"))

    def test_one_that_returns_nan_for_finite_inputs_is_refused(self):
        message = self.ask("def scale_rows(x, factor):\n    return factor * x + (x - x) / (x - x)\n", code=2)
        self.assertIn("returns NaN in 120 elements of output 'y' for finite inputs", message)

    def test_one_without_the_function_is_refused_with_those_that_it_has(self):
        message = self.ask("def a(x):\n    return x\n\n\ndef b(x):\n    return x\n")
        self.assertIn("defines no function 'scale_rows', but a, b", message)
        self.write("scale.py", "def a(x, factor):\n    return x * factor\n\n\ndef b(x):\n    return x\n")
        self.tune(ref="scale.py:a", budget=1)

    def test_one_that_ends_its_process_is_refused(self):
        self.assertIn("ended its process (status 3)", self.ask("import os\nos._exit(3)\n"))

    def test_how_its_process_ends_after_the_answer_does_not_matter(self):
        self.write("scale.py", "import atexit\nimport os\natexit.register(os.abort)\n\n\n"
                               "def scale_rows(x, factor):\n    return x * factor\n")
        self.tune(budget=1)

    def test_a_missing_python_is_named(self):
        self.assertIn("'/none/python', which runs references, cannot be started",
                      self.refused(MLX_KD_PYTHON="/none/python"))

    def test_recorded_arrays_are_a_reference(self):
        self.write("record.py", "import mlx.core as mx\nx = mx.arange(120, dtype=mx.float32).reshape(3, 40)\n"
                                "mx.savez('ok.npz', x=x, y=x / 2)\nmx.save_safetensors('off.safetensors', {'x': x, 'y': x})\n"
                                "mx.savez('less.npz', x=x)\n")
        import subprocess
        subprocess.run([self.python, "record.py"], check=True, cwd=self.folder)
        self.tune(ref="ok.npz", shapes=None, budget=1)
        self.assertIn("wrong", self.tune(ref="off.safetensors", shapes=None, out="third", code=1).stderr)
        self.assertIn("holds no array 'y', but 'x'", self.tune(ref="less.npz", shapes=None, out="third", code=2).stderr)


class BadInput(TuneCase):
    def with_scale(self, old, new, **more):
        self.assertIn(old, SCALE)
        self.write("scale.cpu.cpp", SCALE.replace(old, new))
        return self.refused(**more)

    def test_no_such_function(self):
        self.assertIn("scale.cpu.cpp has no function 'other': give one with --fn", self.refused(fn="other"))
        message = self.refused("softmax.metal", fn="other", ref="softmax.py")
        self.assertIn("softmax.metal has no kernel 'other', but 'softmax_rows'", message)

    def test_the_only_kernel_of_a_file_needs_no_name(self):
        self.write("softmax.metal", SOFTMAX.replace("D % VEC == 0", "D % VEC == 9"))
        self.assertIn("no setting of the knobs of 'softmax_rows' satisfies", self.refused(
            "softmax.metal", fn=None, ref="softmax.py", shapes="rows=2,D=64"))
        self.write("softmax.metal", SOFTMAX + "kernel void other(device float* y [[buffer(0)]]) { y[0] = 1; }\n")
        self.assertIn("softmax.metal has the kernels 'softmax_rows' or 'other': give one with --fn",
                      self.tune("softmax.metal", fn=None, ref="softmax.py", out="second", code=2).stderr)
        self.assertIn("no kernel of scale.cpu.cpp is named", self.tune(fn=None, out="second", code=2).stderr)

    def test_faults_of_the_text_name_the_lines_of_the_files(self):
        self.write("helpers.h", "#pragma once\n\nfloat half_of(float x) { return x / flaot(2); }\n")
        self.write("softmax.metal", SOFTMAX.replace("using namespace metal;\n", "using namespace metal;\n#include \"helpers.h\"\n"))
        message = self.refused("softmax.metal", fn="softmax_rows", ref="softmax.py", code=1)
        self.assertIn("(TG=64,VEC=1) the kernel does not compile: helpers.h:3", message)
        self.write("helpers.h", "float half_of(float x) { return x / 2; }\n\n")
        self.write("softmax.metal", (self.folder / "softmax.metal").read_text().replace("max(most, float(in[i]))", "nothing"))
        line = next(i for i, text in enumerate((self.folder / "softmax.metal").read_text().splitlines(), 1) if "nothing" in text)
        self.assertIn(f"softmax.metal:{line}", self.refused("softmax.metal", fn="softmax_rows", ref="softmax.py", code=1))

    def test_no_knobs(self):
        self.write("scale.cpu.cpp", "\n".join(line for line in SCALE.splitlines() if "knob" not in line))
        self.assertIn("has no knobs, so there is nothing to tune", self.refused())

    def test_a_knob_that_is_never_used(self):
        message = self.with_scale("// kd: knob GRAIN 4, 1\n", "// kd: knob GRAIN 4, 1\n// kd: knob SPARE 1, 2\n")
        self.assertIn("the knob 'SPARE' is never used", message)

    def test_constraints_that_nothing_satisfies(self):
        message = self.with_scale("// kd: units", "// kd: where UNROLL > 4\n// kd: units")
        self.assertIn("no setting of the knobs of 'scale_rows' satisfies its constraints at every size (UNROLL > 4)", message)

    def test_sizes_that_are_missing(self):
        self.assertIn("'rows=3' lacks 'D'", self.refused(shapes="rows=3"))
        self.assertIn("no sizes are given: write --shapes, for example 'rows=1|64,D=4096'", self.refused(shapes=None))

    def test_a_launch_that_divides_by_0(self):
        message = self.with_scale("units (rows)", "units (rows / (THREADS - 1))")
        self.assertIn("'rows / (THREADS - 1)' divides by 0 at rows = 3, THREADS = 1", message)

    def test_a_launch_of_too_many_threads(self):
        self.write("softmax.metal", SOFTMAX.replace("(rows * TG)", "(rows * TG, 65536, 1024)"))
        message = self.refused("softmax.metal", fn="softmax_rows", ref="softmax.py")
        self.assertIn("has more than 2^31 - 1 threads at rows=3,D=40 with TG=", message)
        self.write("softmax.metal", SOFTMAX.replace("group (TG)", "group (TG, TG)"))
        self.assertIn("threadgroups of 4096 threads", self.refused("softmax.metal", fn="softmax_rows", ref="softmax.py"))

    def test_a_name_that_the_table_has(self):
        message = self.refused("scale.cpu.cpp", "--name", "rmsnorm")
        self.assertIn("'rmsnorm' is an operator of the table: give your kernel another name with --name", message)

    def test_no_reference_and_no_launch_and_no_shape(self):
        self.assertIn("there is no reference", self.refused(ref=None))
        self.assertIn("does not say how it is launched", self.with_scale("// kd: units (rows)\n", ""))
        self.write("softmax.metal", SOFTMAX.replace("// kd: in x (rows, D)\n", ""))
        self.assertIn("does not say which shape 'x' has", self.refused("softmax.metal", fn="softmax_rows", ref="softmax.py"))

    def test_heads_that_say_something_else(self):
        for old, new, words in (
                ("// kd: units", "// kd: untis", "scale.cpu.cpp:4: 'untis' says nothing to kd"),
                ("4, 1\n", "4, one\n", "'one' is not a whole number"),
                ("#ifndef UNROLL\n", "", "UNROLL is defined without #ifndef"),
                ("in x (rows, D)", "in x rows, D", "is not an array"),
                ("units (rows)", "units (rowz)", "names 'rowz', which is neither a size nor a knob"),
                ("factor 0.5", "factor half", "is not a scalar")):
            self.assertIn(words, self.with_scale(old, new), new)

    def test_judges_that_are_not_known(self):
        for judge, words in (("near", "the judge 'near' is not known"), ("bound:rtol=1", "only close takes rtol="),
                             ("close", "has no tolerance"), ("close:rtol=-1", "has the tolerance '-1'")):
            self.assertIn(words, self.refused("scale.cpu.cpp", "--judge", judge))


if __name__ == "__main__":
    unittest.main()
