// What the launch of wide_tiles.cu.h is: knobs, shared memory, blocks.
#pragma once

#include <string>

#include "mlx_kd/spec/op/variant.h"

namespace mlx_kd::kernels::wide_tiles {

inline constexpr int64_t kRows = 128, kDepth = 64;  // of an operand

// Knobs of products on tensor cores, or TENSOR = 0 alone for float32.
spec::Space space(spec::Dtype t);

struct Results {
  int64_t items, rows, columns;  // matrices of y, and of each
};
// Without tensor maps.
spec::Stage stage(const std::string& func_name, const Results& results, const spec::Setting& knobs);

}  // namespace mlx_kd::kernels::wide_tiles
