// What the results of attention are held against.
#pragma once

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::attention {

// As Op::fill, Op::is_sampled, Op::reference and Op::bound. Of a sampled size some rows are
// computed: of each head the first, the last and others.
void fill(const spec::FillRequest& request);
bool is_sampled(const spec::Dims& dims);
std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, spec::Dtype dtype,
                                         const spec::Dims& dims,
                                         const std::vector<double>& scalars);
spec::ErrorBound bound(const spec::Dims& dims);

}  // namespace mlx_kd::kernels::attention
