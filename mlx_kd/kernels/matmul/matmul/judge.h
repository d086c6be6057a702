// How close a kernel of matmul must come.
#pragma once

#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::general_product {

// Whether a product has so many terms that its reference gives only some elements.
bool is_sampled(const spec::Dims& dims);

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, spec::Dtype t,
                                         const spec::Dims& dims,
                                         const std::vector<double>& scalars);
spec::ErrorBound bound(const spec::Dims& dims);

}  // namespace mlx_kd::kernels::general_product
