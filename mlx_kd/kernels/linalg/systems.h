// The variants of operators on P A = L U (lu.cpu.h) and on triangles (triangle.cpu.h), which differ
// in what they make of the factors.
#pragma once

#include <functional>
#include <string>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::linalg {

// What a source makes from its factors.
struct Made {
  std::string op;      // its folder; "mlx_kd_" + op takes whole matrices
  std::string finish;  // the last stage of shared matrices
  std::function<int64_t(const spec::Dims&)> sides =
      {};                // columns of right sides in work; none: no such
  bool by_rows = false;  // finish's units are PANEL rows of each, rather than tiles of the sides
  int triangles = 1;     // of each matrix in work
};

spec::Variant lu_variant(const Made& made);        // dims batch, n and perhaps m
spec::Variant triangle_variant(const Made& made);  // dims batch, n

// A threadgroup for each matrix, in Metal: HELD as in elements.metal.h, `scratch` floats for each.
spec::Variant metal_variant(const std::string& op,
                            const std::function<int64_t(const spec::Dims&)>& scratch);

// A group of threads for each matrix, in CUDA C++ (systems.cu.h): rows x columns, of the dims m or
// n, and `sides` right sides.
spec::Variant cuda_variant(const std::string& op,
                           const std::function<int64_t(const spec::Dims&)>& sides);

}  // namespace mlx_kd::kernels::linalg
