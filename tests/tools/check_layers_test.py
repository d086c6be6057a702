"""check_layers.py finds each kind of violation in a small tree, and none in a tidy one."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(os.environ["MLX_KD_SOURCE_DIR"]) / "tools" / "check_layers.py"


class CheckLayers(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="kd_layers_"))
        self.addCleanup(shutil.rmtree, self.root)
        self.write("CMakeLists.txt", "mlx_kd_room(base)\nmlx_kd_room(spec DEPS base)\n")
        self.write("mlx_kd/base/clock.h", "#include <string>\n")
        self.write("mlx_kd/spec/op/op.h", '#include "mlx_kd/base/clock.h"\n#include "mlx_kd/spec/space.h"\n')
        self.write("mlx_kd/kernels/positions/rope/op.cpp",
                   '#include <mlx/mlx.h>\n#include "mlx_kd/kernels/op_table.h"\n'
                   '#include "mlx_kd/kernels/common/suites.h"\n#include "mlx_kd/kernels/positions/angles.h"\n')
        self.write("mlx_kd/kernels/positions/rope/rope.cpu.cpp", '#include "../../common/steps.cpu.h"\n')
        self.write("mlx_kd/kernels/common/steps.cpu.h", "#pragma once\n")

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def check(self):
        return subprocess.run([sys.executable, SCRIPT, self.root], capture_output=True, text=True)

    def assert_found(self, text):
        result = self.check()
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertIn(text, result.stdout)

    def test_tidy_tree_passes(self):
        result = self.check()
        self.assertEqual(result.returncode, 0, result.stdout)

    def test_include_upward_is_found_with_its_line(self):
        self.write("mlx_kd/base/clock.h", '#pragma once\n#include "mlx_kd/spec/op/op.h"\n')
        self.assert_found("clock.h:2: base (rank 0) may not use spec (rank 1)")

    def test_sibling_is_found(self):
        self.write("mlx_kd/search/space/tours.cpp", '# include "mlx_kd/archive/run.h"\n')
        self.assert_found("search (rank 2) may not use archive (rank 2)")

    def test_inner_room_that_looks_up_is_found(self):
        self.write("mlx_kd/msl/text/lexer.cpp", '#include "mlx_kd/msl/parse/unit.h"\n')
        self.assert_found("text (rank 1 in msl) may not use parse (rank 2)")

    def test_inner_room_without_a_rank_is_found(self):
        self.write("mlx_kd/msl/colours/red.cpp", '#include "mlx_kd/msl/text/lexer.h"\n')
        self.assert_found("msl/colours has no rank")

    def test_operator_that_uses_another_is_found(self):
        self.write("mlx_kd/kernels/positions/rope/op.cpp", '#include "mlx_kd/kernels/positions/alibi/math.h"\n')
        self.assert_found("kernels/positions/rope may not use kernels/positions/alibi")

    def test_operator_that_uses_another_family_is_found(self):
        self.write("mlx_kd/kernels/positions/rope/op.cpp", '#include "mlx_kd/kernels/norms/rows.h"\n')
        self.assert_found("kernels/positions/rope may not use kernels/norms")

    def test_common_that_uses_a_family_is_found(self):
        self.write("mlx_kd/kernels/common/suites.cpp", '#include "mlx_kd/kernels/norms/rows.h"\n')
        self.assert_found("kernels/common may not use kernels/norms")

    def test_room_that_looks_into_an_operator_is_found(self):
        self.write("mlx_kd/runtime/call.cpp", '#include "mlx_kd/kernels/common/suites.h"\n')
        self.assert_found("other rooms use kernels/*.h alone")

    def test_kernel_source_with_a_header_of_the_system_is_found(self):
        self.write("mlx_kd/kernels/positions/rope/rope.cpu.cpp", "#include <cmath>\n")
        self.assert_found("no system header")

    def test_kernel_source_that_includes_another_kind_of_text_is_found(self):
        self.write("mlx_kd/kernels/positions/rope/rope.metal", '#include "../../common/steps.cpu.h"\n')
        self.assert_found("'../../common/steps.cpu.h' is not a *.metal.h")

    def test_kernel_source_that_includes_what_is_not_there_is_found(self):
        self.write("mlx_kd/kernels/positions/rope/rope.cpu.cpp", '#include "../../common/stairs.cpu.h"\n')
        self.assert_found("is not a *.cpu.h")

    def test_kernel_source_that_uses_another_operator_is_found(self):
        self.write("mlx_kd/kernels/norms/rmsnorm/rows.cpu.h", "")
        self.write("mlx_kd/kernels/positions/rope/rope.cpu.cpp", '#include "../../norms/rmsnorm/rows.cpu.h"\n')
        self.assert_found("kernels/positions/rope may not use kernels/norms/rmsnorm")

    def test_kernels_use_the_shared_texts_of_their_family(self):
        self.write("mlx_kd/kernels/matmul/rows/rows.cpu.h", "")
        self.write("mlx_kd/kernels/matmul/tiles/tiles.cpu.h", '#include "../rows/rows.cpu.h"\n')
        self.write("mlx_kd/kernels/matmul/gemm/gemm.cpu.cpp", '#include "../tiles/tiles.cpu.h"\n')
        self.assertEqual(self.check().returncode, 0)
        self.write("mlx_kd/kernels/matmul/rows/rows.cpu.h", '#include "../tiles/tiles.cpu.h"\n')
        self.assert_found("rows (rank 1 in kernels/matmul) may not use tiles (rank 2)")

    def test_shared_texts_that_use_an_operator_are_found(self):
        self.write("mlx_kd/kernels/matmul/gemm/sums.cpu.h", "")
        self.write("mlx_kd/kernels/matmul/tiles/tiles.cpu.h", '#include "../gemm/sums.cpu.h"\n')
        self.assert_found("kernels/matmul/tiles may not use kernels/matmul/gemm")

    def test_shared_text_follows_the_same_rules(self):
        self.write("mlx_kd/kernels/common/steps.cpu.h", '#include "../positions/turns.cpu.h"\n')
        self.write("mlx_kd/kernels/positions/turns.cpu.h", "")
        self.assert_found("kernels/common may not use kernels/positions")

    def test_mlx_in_a_room_without_it_is_found(self):
        self.write("mlx_kd/search/space/tours.cpp", "#include <mlx/array.h>\n")
        self.assert_found("search does without MLX")

    def test_runtime_that_reaches_the_archive_is_found(self):
        self.write("mlx_kd/runtime/lookup.cpp", '#include "mlx_kd/archive/run.h"\n')
        self.assert_found("runtime never reaches archive")

    def test_relative_include_is_found(self):
        self.write("mlx_kd/spec/op/op.cpp", '#include "op.h"\n')
        self.assert_found("write the whole path")

    def test_folder_with_too_many_modules_is_found(self):
        for number in range(13):
            self.write(f"mlx_kd/base/part_{number}.h", "")
            self.write(f"mlx_kd/cli/verbs/verb_{number}.cpp", "")
        self.assert_found("base: 14 modules, more than 12")
        self.assertNotIn("verbs: ", self.check().stdout)

    def test_room_without_a_rank_is_found(self):
        self.write("mlx_kd/utils/misc.h", "")
        self.assert_found("has no rank")

    def test_dependency_upward_in_cmake_is_found(self):
        self.write("CMakeLists.txt", "mlx_kd_room(devices DEPS spec kernels LIBS mlx_kd_mlx)\n")
        self.assert_found("devices (rank 3) may not use kernels (rank 3)")

    def test_folder_without_rooms_is_no_success(self):
        shutil.rmtree(self.root / "mlx_kd")
        self.assert_found("there is no such folder")


if __name__ == "__main__":
    unittest.main()
