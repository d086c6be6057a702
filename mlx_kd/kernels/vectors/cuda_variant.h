// Searches of vectors in CUDA C++; flat.cu.h, ivf_topk.cu and ivfpq_topk.cu say how they work.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/spec/op/variant.h"

namespace mlx_kd::kernels::vectors {

// Of l2_topk and ip_topk.
spec::Variant flat_in_cuda(const std::string& op);

// Of ivf_topk and ivfpq_topk; `resident`: values of the knob for blocks of items.
spec::Variant lists_in_cuda(const std::string& op, const std::vector<int64_t>& resident);

}  // namespace mlx_kd::kernels::vectors
