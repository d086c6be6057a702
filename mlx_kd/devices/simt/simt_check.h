// One call of a candidate with every access watched.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/simt/simt_compiler.h"

namespace mlx_kd::devices::simt {

// As Device::check: `source` is the candidate's text.
std::vector<std::string> find_faults(const MetalText& source, const spec::Candidate& candidate,
                                     const std::vector<std::span<const std::byte>>& inputs,
                                     const std::vector<size_t>& output_bytes, const Call& call);

}  // namespace mlx_kd::devices::simt
