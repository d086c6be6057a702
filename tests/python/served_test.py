"""A Python and a C++ program of a user's, served by ranges of rows, by the shipped packs and by a bundle."""
import functools
import json
import os
import sys
import unittest

from tests.support.package import CMAKE, PREFIX, PackageTest, python, run, temporary_folder

import mlx.core as mx

import mlx_kd

# Both take D and counts of rows, and print the greatest element of the norm of that many rows of ones, then what
# served them.
IN_CPP = """#include <mlx/ops.h>
#include <mlx_kd/mlx_kd.h>
#include <cstdio>
#include <cstdlib>
int main(int argc, char** argv) {
  namespace mx = mlx::core;
  const int width = std::atoi(argv[1]);
  for (int i = 2; i < argc; ++i) {
    const mx::array ones = mx::ones({std::atoi(argv[i]), width});
    std::printf("%.3g ", mx::max(mlx_kd::rmsnorm(ones, mx::ones({width}))).item<float>());
  }
  const mlx_kd::Stats stats = mlx_kd::stats();
  std::printf("hits=%d misses=%d fallbacks=%d\\n", int(stats.hits), int(stats.misses), int(stats.fallbacks));
}
"""
IN_PYTHON = """
import sys, mlx.core as mx, mlx_kd
width = int(sys.argv[1])
for rows in map(int, sys.argv[2:]):
    print("%.3g" % mx.max(mlx_kd.rmsnorm(mx.ones((rows, width)), mx.ones(width))).item(), end=" ")
print("hits={hits} misses={misses} fallbacks={fallbacks}".format(**mlx_kd.stats()))
"""
BUILD = """cmake_minimum_required(VERSION 3.25)
project(served LANGUAGES CXX)
find_package(mlx_kd REQUIRED)
add_executable(served served.cpp)
target_link_libraries(served PRIVATE mlx_kd::mlx_kd)
"""
MARKING = """extern "C" void mlx_kd_rmsnorm(const void* const*, void* const* out, const long* dims, const double*,
                                   long begin, long end) {
  for (long i = begin * dims[1]; i < end * dims[1]; ++i) ((float*)out[0])[i] = MARK;
}
"""


def marking_entry(rows, mark, **more):
    """An entry of rmsnorm for this CPU, D = 8, whose kernel writes `mark` into every element."""
    cpu = json.loads(run(PREFIX / "bin" / "kd", "devices", "--json").stdout)[0]
    return {"key": {"op_name": "rmsnorm", "mlx_version": mx.__version__, "device_arch": cpu["arch"],
                    "device_name": cpu["name"], "dtype": "float32", "shape_signature": {"rows": rows, "D": 8}},
            "language": "cpp", "func_name": "mlx_kd_rmsnorm", "source": MARKING.replace("MARK", str(mark)),
            "inputs_spec": [{"name": "inp"}, {"name": "weight"}], "outputs_spec": [{"name": "out"}],
            "launch_params": {"launch_kind": "cpu_rows", "THREADS": 1, "GRAIN": 1},
            "target": {"cores": 1}, "protocol": "test", **more}


@functools.cache
def program_in_cpp():
    """Built once from the installed package, as docs/cpp.md says."""
    folder = temporary_folder()
    (folder / "served.cpp").write_text(IN_CPP)
    (folder / "CMakeLists.txt").write_text(BUILD)
    for command in (("-S", folder, "-B", folder, "-G", "Ninja", f"-Dmlx_kd_DIR={PREFIX / 'lib/cmake/mlx_kd'}"),
                    ("--build", folder)):
        built = run(CMAKE, *command)
        assert built.returncode == 0, built.stdout + built.stderr
    return folder / "served"


def found_pack():
    """A pack whose pin of rmsnorm, D = 1024, serves 1 to 8 rows, found here and now; None where none was faster."""
    folder = temporary_folder()
    mlx_kd.run("rmsnorm", folder / "run", shapes="rows=2,D=1024", row_range="1:8", dtype="float32", budget=4, claims="quick")
    entries = json.loads((folder / "run" / "best_kernels.json").read_text())["entries"]
    if not any("rows_range" in entry for entry in entries):
        return None
    mlx_kd.install(folder / "run", folder / "pins.json")
    return folder / "pins.json"


class Served(PackageTest):
    @classmethod
    def setUpClass(cls):
        cls.program = program_in_cpp()

    def assert_both_print(self, line, pack, width, *rows, **variables):
        on = {"MLX_KD_USE_DISCOVERED_KERNELS": 1, "MLX_KD_DISCOVERED_KERNELS_PATH": pack, **variables}
        for command in ([self.program], [sys.executable, "-c", IN_PYTHON]):
            ran = run(*command, width, *rows, MLX_KD_CACHE_DIR=self.folder(), **on)
            self.assertEqual(self.assert_succeeds(ran).rstrip(), line)


class ByARange(Served):
    def test_range_serves_its_ends_and_what_lies_between_but_for_sizes_with_their_own_pin(self):
        pack = self.folder() / "pins.json"
        ranged = marking_entry(4, 42, rows_range=[2, 6], rows_sampled=[2, 4, 6])
        pack.write_text(json.dumps({"schema_version": "3", "runtime": {}, "entries": [ranged, marking_entry(5, 43)]}))
        self.assert_both_print("1 42 42 42 43 42 1 hits=5 misses=2 fallbacks=0", pack, 8, *range(1, 8))


class ByWhatARunFound(Served):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.pack = found_pack()
        if cls.pack is None:
            raise unittest.SkipTest("this machine is too busy to claim a speed-up at each sampled count of rows")

    def test_range_of_a_run_serves_the_sizes_inside_it(self):
        self.assert_both_print("1 1 1 1 1 hits=4 misses=1 fallbacks=0", self.pack, 1024, 1, 2, 5, 8, 9)

    def test_bundle_for_a_lower_level_serves_where_no_compiler_is(self):
        if os.uname().machine != "x86_64":
            self.skipTest("levels are those of x86-64")
        bundle = self.folder() / "v3.json"
        done = run(PREFIX / "bin" / "kd", "bundle", self.pack, "-o", bundle, "--march", "x86-64-v3")
        if "this CPU lacks" in done.stderr:
            self.skipTest(done.stderr)
        self.assert_succeeds(done)
        targets = [common["target"] for common in json.loads(bundle.read_text())["common"]]
        self.assertFalse([target for target in targets if any("avx512" in isa for isa in target["isa"])])
        for pack, line in ((bundle, "1 1 1 1 1 hits=4 misses=1 fallbacks=0"),
                           (self.pack, "1 1 1 1 1 hits=0 misses=1 fallbacks=4")):
            with self.subTest(pack=pack.name):
                self.assert_both_print(line, pack, 1024, 1, 2, 5, 8, 9, PATH="/nowhere", CXX="")


USE_SHIPPED = """
import json, mlx.core as mx, mlx_kd

def inputs(op, dtype, n):
    def random(*shapes):
        return [mx.random.normal(shape).astype(dtype) for shape in shapes]
    if op == "rope":
        heads, nope, half = (n["B"], n["H_Q"], 1), n["D_NOPE"], n["D_ROPE"] // 2
        one = (n["B"], 1, 1)
        return random((*heads, nope), (*heads, 2 * half), (*one, nope), (*one, 2 * half), (half,), (half,))
    rows = (n["rows"], n["D"])
    return random(*{"swiglu": (rows, rows), "rmsnorm": (rows, rows[1:])}.get(op, (rows, rows, rows[1:])))

first = {}
for pin in mlx_kd.stats()["pins"]:
    first.setdefault((pin["op"], pin["dtype"]), pin["shape"])
calls = [(op, inputs(op, getattr(mx, dtype), {k: int(v) for k, v in (dim.split("=") for dim in shape.split(","))}))
         for (op, dtype), shape in first.items()]
got = [mlx_kd.call(op, arrays) for op, arrays in calls]
mx.eval(got)
hits = mlx_kd.stats()["hits"]
mlx_kd.disable()
close = [mx.allclose(a, b, rtol=2e-2, atol=2e-2).item()
         for (op, arrays), outputs in zip(calls, got) for a, b in zip(outputs, mlx_kd.call(op, arrays))]
print(json.dumps({"calls": len(calls), "hits": hits, "close": all(close), "norm": first.get(("rmsnorm", "float32")),
                  "files": mlx_kd.stats()["files"]}))
"""


class ByTheShippedPacks(Served):
    def test_pins_of_this_machine_are_hit_once_asked_for(self):
        on = {"MLX_KD_USE_DISCOVERED_KERNELS": 1, "MLX_KD_DISCOVERED_KERNELS_PATH": "shipped"}
        result = json.loads(self.assert_succeeds(python(USE_SHIPPED, **on)))
        if result["calls"] == 0:
            self.skipTest("no shipped pack is for this CPU and this MLX")
        self.assertEqual(result["hits"], result["calls"])
        self.assertTrue(result["close"])
        if not result["norm"]:
            self.skipTest("no shipped pack has a float32 rmsnorm for this CPU and this MLX")
        size = dict(dim.split("=") for dim in result["norm"].split(","))
        self.assert_both_print("1 hits=1 misses=0 fallbacks=0", "shipped", size["D"], size["rows"])


if __name__ == "__main__":
    unittest.main()
