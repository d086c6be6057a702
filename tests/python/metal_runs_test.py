"""tools/metal_runs.py: kernels with their arrays, kept in a file, run, and held against what they must give."""
import argparse
import os
import pathlib
import sys
import tempfile
import unittest

import mlx.core as mx

try:
    import numpy as np
except ImportError:
    print("NumPy is not installed")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(os.environ["MLX_KD_SOURCE_DIR"]) / "tools"))
import metal_runs  # noqa: E402

SOURCE = """#include <metal_stdlib>
using namespace metal;
constant int TIMES [[function_constant(0)]];
kernel void times(device const bfloat* x, device bfloat* y, device uint* n, constant uint& count,
                  uint i [[thread_position_in_grid]]) {
  y[i] = bfloat(float(x[i]) * TIMES);
  n[i] = count;
}
"""


def case(**more):
    x = mx.arange(5).astype(mx.bfloat16)
    given = {"kernel": "times", "file": "sub/times.metal", "grid": (5,), "group": (4,),
             "inputs": {"x": x, "count": np.array(7, np.uint32)},
             "expected": {"y": 3 * x, "n": np.full(5, 7, np.uint32)}, "constants": {0: 3}, **more}
    made = metal_runs.Case(**given)
    for part in metal_runs.ARRAYS:
        setattr(made, part, {name: metal_runs.plain(array) for name, array in getattr(made, part).items()})
    return made


class MetalRuns(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="kd_metal_runs_")
        self.addCleanup(temp.cleanup)
        self.folder = pathlib.Path(temp.name)
        (self.folder / "sub").mkdir()
        (self.folder / "sub" / "times.metal").write_text(SOURCE)
        self.options = argparse.Namespace(kd=os.environ["MLX_KD_PROGRAM"], device="simt", check="", jobs=1)

    def test_cases_are_the_same_when_they_come_from_a_file(self):
        file = self.folder / "cases.npz"
        metal_runs.write_cases(file, {"mlx": [case()]})
        read, = metal_runs.read_cases(file)["mlx"]
        for part in metal_runs.ARRAYS:
            for name, array in getattr(case(), part).items():
                kept = getattr(read, part)[name]
                self.assertEqual((kept.code, kept.bits.shape), (array.code, array.bits.shape))
                np.testing.assert_array_equal(kept.numbers(), array.numbers())
        self.assertEqual(metal_runs.run(read, self.folder, self.options)["problem"], "")

    def test_a_kernel_that_gives_something_else_is_counted_with_its_element(self):
        wrong = case(expected={"y": 2 * mx.arange(5).astype(mx.bfloat16), "n": np.full(5, 7, np.uint32)}, tolerance=0.1)
        told = metal_runs.run_set("mlx", [case(), wrong, case(kernel="none")], self.folder, self.options)
        self.assertEqual((told["kernels"], told["right"]), (3, 1))
        self.assertRegex(told["wrong"][1], r"times 0=3: y\[4\] is 12 and must be 8")
        self.assertIn("no kernel 'none'", told["wrong"][0])


if __name__ == "__main__":
    unittest.main()
