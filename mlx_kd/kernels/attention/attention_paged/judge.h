// What the results of attention over pages are held against.
#pragma once

#include "mlx_kd/kernels/attention/paged_keys.h"

namespace mlx_kd::kernels::attention_paged {

enum PortIndex { kQ, kKeyPages, kValuePages, kTable, kBegins, kEnds };
inline constexpr attention::PagedPorts kPlaces = {kQ, kTable, kBegins, kEnds};

// As Op::fill, Op::reference and Op::bound.
void fill(const spec::FillRequest& request);
std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, spec::Dtype dtype,
                                         const spec::Dims& dims,
                                         const std::vector<double>& scalars);
spec::ErrorBound bound(const spec::Dims& dims);

}  // namespace mlx_kd::kernels::attention_paged
