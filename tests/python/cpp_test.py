"""What C++ users get: a package that is found, a library that shows its API and nothing else."""
import os
import re
import shutil
import subprocess
import unittest

from tests.support.package import CMAKE, PREFIX, PackageTest, run

PROGRAM = """#include <mlx/mlx.h>
#include <mlx_kd/mlx_kd.h>
#include <cstdio>
int main() {
  namespace mx = mlx::core;
  try {
    mlx_kd::rmsnorm(mx::ones({2, 8}), mx::ones({4}));
  } catch (const std::invalid_argument& error) {
    std::puts(error.what());
  }
  try {
    mlx_kd::enable("/no/such/pack.json");
  } catch (const mlx_kd::base::Error& error) {
    std::printf("%d\\n", error.exit_code());
  }
  std::printf("%g\\n", mx::sum(mlx_kd::rmsnorm(mx::ones({2, 8}), mx::ones({8}))).item<float>());
}
"""
FIND = """cmake_minimum_required(VERSION 3.25)
project(user LANGUAGES CXX)
find_package(mlx_kd {version} REQUIRED)
message(STATUS "target: $<TARGET_EXISTS:mlx_kd::mlx_kd>")
"""


class Package(PackageTest):
    def configure(self, text, *options):
        folder = self.folder()
        (folder / "CMakeLists.txt").write_text(text)
        return run(CMAKE, "-S", folder, "-B", folder / "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={PREFIX}",
                   *options)

    def test_another_version_is_not_found(self):
        result = self.configure(FIND.format(version="99.0"))
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("99.0", result.stderr)

    def test_another_mlx_is_refused_by_name(self):
        mlx = self.folder()
        (mlx / "include" / "mlx").mkdir(parents=True)
        (mlx / "include" / "mlx" / "mlx.h").touch()
        (mlx / "include" / "mlx" / "version.h").write_text(
            "#define MLX_VERSION_MAJOR 0\n#define MLX_VERSION_MINOR 1\n#define MLX_VERSION_PATCH 2\n")
        result = self.configure(FIND.format(version=""), f"-DMLX_KD_MLX_DIR={mlx}")
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(" ".join(result.stderr.split()), r"built for MLX [\d.]+, but .* holds MLX 0\.1\.2")

    def test_program_of_pkg_config_runs_and_catches_both_kinds_of_error(self):
        if not shutil.which("pkg-config"):
            self.skipTest("pkg-config is not installed")
        folder = self.folder()
        (folder / "user.cpp").write_text(PROGRAM)
        flags = self.assert_succeeds(run("pkg-config", "--cflags", "--libs", "mlx_kd",
                                         PKG_CONFIG_PATH=PREFIX / "lib" / "pkgconfig")).split()
        cxx = os.environ["MLX_KD_CXX"]
        self.assert_succeeds(run(cxx, folder / "user.cpp", *flags, "-o", folder / "user"))
        lines = self.assert_succeeds(run(folder / "user")).splitlines()
        self.assertRegex(lines[0], r"\[rmsnorm\].*8.*4|\[rmsnorm\].*4.*8")
        self.assertEqual(lines[1:], ["2", "16"])

    def test_headers_are_those_of_the_api(self):
        found = {str(path.relative_to(PREFIX / "include")) for path in (PREFIX / "include").rglob("*.h")}
        self.assertEqual(found, {"mlx_kd/mlx_kd.h", "mlx_kd/base/api.h", "mlx_kd/base/error.h",
                                 "mlx_kd/runtime/cache/cache.h", "mlx_kd/runtime/call/linalg.h",
                                 "mlx_kd/runtime/call/metal_kernel.h", "mlx_kd/runtime/call/ops.h",
                                 "mlx_kd/runtime/call/sample.h",
                                 "mlx_kd/runtime/state/settings.h", "mlx_kd/runtime/state/stats.h",
                                 "mlx_kd/runtime/tuning/autotune.h", "mlx_kd/runtime/tuning/tuned.h",
                                 "mlx_kd/runtime/wire/grpc_tensor.h", "mlx_kd/runtime/wire/message.h",
                                 "mlx_kd/runtime/wire/msgpack.h", "mlx_kd/runtime/wire/tensor.h"})

    def test_library_shows_the_api_alone(self):
        if not shutil.which("nm"):
            self.skipTest("nm is not installed")
        library = PREFIX / "lib" / "libmlx_kd.so"
        if not library.exists():
            self.skipTest("symbols are checked on Linux")
        listed = subprocess.check_output(["nm", "-D", "-C", "--defined-only", library], text=True)
        names = [line.split(" ", 2)[2] for line in listed.splitlines()]
        api = [name for name in names if name.startswith("mlx_kd::runtime::")]
        self.assertTrue(any(name.startswith("mlx_kd::runtime::rmsnorm(") for name in api))
        others = [name for name in names if name not in api and not name.endswith("mlx_kd::base::Error")]
        self.assertEqual(others, [])
        ours = [name for name in api if not re.match(r"mlx_kd::runtime::(cache|linalg|wire|Tuned|Autotune)", name)]
        caches = {name.split("(")[0].split("::", 3)[3] for name in api if name.startswith("mlx_kd::runtime::cache::")}
        self.assertLessEqual(caches, {"make", "Cache::nbytes", "PoolFull::~PoolFull"})
        operators = (PREFIX / "include" / "mlx_kd" / "runtime" / "call" / "ops.h").read_text().count("MLX_KD_API")
        self.assertLess(len(ours), operators + 35, "\n".join(ours))


if __name__ == "__main__":
    unittest.main()
