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

// In CUDA C++, rows x columns of the dims m or n, and `sides` right sides: a group of threads for
// each matrix in shared memory (systems.cu.h); many for those that do not fit there (large.cu.h).
struct OnCuda {
  std::string op;
  std::function<int64_t(const spec::Dims&)> sides = {};  // none: no such
  bool by_panels = true;                                 // P A = L U
  bool keeps_left = false;  // what is left of a panel is exchanged with it
};
spec::Variant cuda_variant(const OnCuda& made);

// The knobs WIDE and SHARED, whether a matrix fits into shared memory, and the launch of its group.
spec::Space cuda_space(spec::Dtype, const spec::DeviceTraits&);
int64_t cuda_bytes(int64_t rows, int64_t columns, int64_t sides);
bool fits_on_cuda(int64_t bytes, const spec::Setting& knobs);
spec::Stage cuda_group(const std::string& function, const spec::Dims& dims, int64_t rows,
                       int64_t shared_bytes, const spec::Setting& knobs);
// Of a large matrix: groups of 32 lanes by `warps` for each, `units` of them in y and `more` in z.
spec::Stage cuda_stage(const std::string& function, const spec::Dims& dims, int64_t warps,
                       int64_t units, int64_t index = 0, int64_t more = 1);
std::vector<int64_t> scratch_on_cuda(const spec::Dims& dims, int64_t rows, int64_t columns,
                                     int64_t sides);

}  // namespace mlx_kd::kernels::linalg
