"""Kernels of users for the tests of kd tune, and a way to run it."""
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

KD = os.environ["MLX_KD_PROGRAM"]
LONG = unittest.skipUnless(os.environ.get("MLX_KD_LONG"), "it takes long (./kd test --long)")

# y = softmax of each row; a threadgroup takes a row.
SOFTMAX = """// kd: in x (rows, D)
// kd: out y (rows, D)
// kd: grid (rows * TG)
// kd: group (TG)
// kd: where D % VEC == 0
#include <metal_stdlib>
using namespace metal;
#ifndef TG
#define TG 64  // knob: 32, 64
#endif
#ifndef VEC
#define VEC 1  // knob: 1, 2
#endif
#ifndef T
#define T float  // type
#endif
[[kernel]] void softmax_rows(const device T* x [[buffer(0)]], device T* y [[buffer(1)]],
                             constant int& D [[buffer(2)]], uint row [[threadgroup_position_in_grid]],
                             uint thread_of_row [[thread_position_in_threadgroup]]) {
  threadgroup float parts[TG];
  const device T* in = x + row * D;
  float most = -INFINITY, sum = 0;
  for (int i = 0; i < D; ++i) most = max(most, float(in[i]));
  for (int i = thread_of_row * VEC; i < D; i += TG * VEC)
    for (int k = 0; k < VEC; ++k) sum += precise::exp(float(in[i + k]) - most);
  parts[thread_of_row] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  sum = 0;
  for (int i = 0; i < TG; ++i) sum += parts[i];
  for (int i = thread_of_row * VEC; i < D; i += TG * VEC)
    for (int k = 0; k < VEC; ++k) y[row * D + i + k] = T(precise::exp(float(in[i + k]) - most) / sum);
}
"""
SOFTMAX_REFERENCE = "import mlx.core as mx\n\n\ndef softmax_rows(x):\n    return mx.softmax(x, axis=-1)\n"

# y = factor * x, by rows, on a CPU.
SCALE = """// kd: in x (rows, D)
// kd: out y (rows, D)
// kd: scalar factor 0.5
// kd: units (rows)
// kd: grain (GRAIN)
// kd: threads (THREADS)
// kd: knob GRAIN 4, 1
// kd: knob THREADS 2, 1
#ifndef UNROLL
#define UNROLL 4  // knob: 1, 2, 4
#endif
extern "C" void scale_rows(const void* const* inputs, void* const* outputs, const long* dims,
                           const double* params, long begin, long end) {
  const float* x = (const float*)inputs[0];
  float* y = (float*)outputs[0];
  const long count = end * dims[1];
  long i = begin * dims[1];
  for (; i + UNROLL <= count; i += UNROLL)
    for (int k = 0; k < UNROLL; ++k) y[i + k] = x[i + k] * (float)params[0];
  for (; i < count; ++i) y[i] = x[i] * (float)params[0];
}
"""
SCALE_REFERENCE = """def scale_rows(x, factor):
    return factor * x


def half(x):
    return x / 2
"""


def python_with_mlx():
    """The Python whose MLX this build is for."""
    for folder in Path(os.environ["MLX_KD_MLX_DIR"]).parents:
        if (folder / "bin" / "python").exists():
            return str(folder / "bin" / "python")
    raise unittest.SkipTest("MLX is not in an environment of Python, which references need")


class TuneCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.python = python_with_mlx()

    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="kd_tune_")
        self.addCleanup(temp.cleanup)
        self.folder = Path(temp.name)
        self.write("softmax.metal", SOFTMAX)
        self.write("softmax.py", SOFTMAX_REFERENCE)
        self.write("scale.cpu.cpp", SCALE)
        self.write("scale.py", SCALE_REFERENCE)

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def kd(self, *words, code=0, **environment):
        result = subprocess.run([KD, *map(str, words)], capture_output=True, text=True, timeout=300, cwd=self.folder,
                                env={**os.environ, "MLX_KD_PYTHON": self.python, **environment})
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        return result

    def tune(self, file="scale.cpu.cpp", *options, fn="scale_rows", ref="scale.py", shapes="rows=3,D=40", budget=2,
             out="run", **more):
        given = ["--budget", budget, "--finalists", 1, "--claims", "quick", "--out", out, "--quiet"]
        given += ["--fn", fn] if fn else []
        given += ["--ref", ref] if ref else []
        given += ["--shapes", shapes] if shapes else []
        return self.kd("tune", file, *given, *options, **more)

    def entries(self):
        return json.loads((self.folder / "run" / "best_kernels.json").read_text())["entries"]

    def refused(self, *words, code=2, **more):
        """The message of a call that is refused, which leaves no run behind."""
        message = self.tune(*words, code=code, **more).stderr
        self.assertFalse((self.folder / "run").exists())
        return message
