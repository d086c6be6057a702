// Searches of vectors in CUDA C++; vectors/flat.cu.h says how they work.
#pragma once

#include <string>

#include "mlx_kd/spec/op/variant.h"

namespace mlx_kd::kernels::vectors {

// Of l2_topk and ip_topk.
spec::Variant flat_in_cuda(const std::string& op);

// Of ivf_topk.
spec::Variant lists_in_cuda(const std::string& op);

}  // namespace mlx_kd::kernels::vectors
