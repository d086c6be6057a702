// One call of a candidate with every access watched.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/metal_text/metal_source.h"

namespace mlx_kd::devices::simt {

// Compiles what find_faults loads; nothing where the compiler refuses it.
void compile_watched(const MetalText& source, const std::string& op_name);

// As Device::check: `source` is the candidate's text. Stages are watched one by one, up to the
// first in which something is wrong; what is found names its stage.
std::vector<std::string> find_faults(const MetalText& source, const spec::Candidate& candidate,
                                     const std::vector<std::span<const std::byte>>& inputs,
                                     const std::vector<size_t>& output_bytes, const Call& call);

}  // namespace mlx_kd::devices::simt
