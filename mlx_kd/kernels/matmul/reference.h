// Products in float64, with what their bounds charge.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/kernels/matmul/products.h"

namespace mlx_kd::kernels::matmul {

// g sigmoid(..) of one number, or of gpt-oss; activation: 0 SiLU, 1 the tanh form of GELU, 2 that
// of gpt-oss, g at most 7.
struct Activated {
  double y, slope, exponent;  // of g; its slope there; what is exponentiated
};
Activated activated(double g, int64_t activation);

// The dims that count the rows of each matrix: "N" twice where two have as many.
std::vector<std::string> rows_of(Form form);

// x goes through the norm as MLX rounds it, so that only products and sums are charged, and the
// elements of x that float32 rounds another way.
std::vector<spec::Reference64> reference_of(const Kind& kind,
                                            const std::vector<const void*>& inputs, spec::Dtype t,
                                            const spec::Dims& dims,
                                            const std::vector<double>& scalars);
// Whether only some elements are computed, since there are more than 2^27 terms: those of the first
// and last rows and columns, and others, at least 16,384.
bool is_sampled(const Kind& kind, const spec::Dims& dims);
// The same of products with chosen experts.
std::vector<spec::Reference64> reference_of_experts(const Kind& kind,
                                                    const std::vector<const void*>& inputs,
                                                    spec::Dtype t, const spec::Dims& dims);
spec::ErrorBound bound_of_experts(const Kind& kind);
spec::ErrorBound bound_of(const Kind& kind);

}  // namespace mlx_kd::kernels::matmul
