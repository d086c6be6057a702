#include "mlx_kd/devices/metal_text/metal_kernel.h"

#include <algorithm>
#include <iostream>
#include <sstream>
#include <stdexcept>

#include "mlx/backend/metal/metal.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/metal_text/metal_body.h"
#include "mlx_kd/devices/registry.h"

namespace mlx_kd::devices {
namespace {

namespace mx = mlx::core;

constexpr int64_t kMostThreads = 1024;  // of a threadgroup, before the grid cuts it
constexpr double kMostBytes = 1e15;     // of an output: more than any machine has

using Sizes = std::array<int64_t, 3>;

Sizes sizes_of(const std::tuple<int, int, int>& sizes, const std::string& what) {
  const Sizes result = {std::get<0>(sizes), std::get<1>(sizes), std::get<2>(sizes)};
  for (const int64_t one : result)
    if (one < 1)
      base::misuse("metal_kernel", "a " + what + " of " + std::to_string(result[0]) + " x " +
                                       std::to_string(result[1]) + " x " +
                                       std::to_string(result[2]) +
                                       " threads: each must be at least 1");
  return result;
}

void check_count(const std::string& what, size_t wanted, size_t got) {
  if (wanted == got) return;
  std::ostringstream message;
  message << "[metal_kernel] Expected `" << what << "` to have size " << wanted << " but got size "
          << got << "." << std::endl;
  throw std::invalid_argument(message.str());
}

// The source as one text, as MLX prints it.
void print_source(const MetalBody& body) {
  std::string text = body.text.text;
  for (const auto& [name, part] : body.text.options.texts) {
    const std::string line = "#include \"" + name + "\"\n";
    if (const size_t at = text.find(line); at != std::string::npos)
      text.replace(at, line.size(), part);
  }
  std::cout << "Generated source code for `" << body.kernel << "`:" << std::endl
            << "```" << std::endl
            << text << std::endl
            << "```" << std::endl;
}

std::vector<mx::array> run_by_mlx(const MetalKernelText& text, const MetalKernelCall& call) {
  const auto kernel = mx::fast::metal_kernel(text.name, text.input_names, text.output_names,
                                             text.source, text.header, text.ensure_row_contiguous,
                                             text.atomic_outputs, text.options);
  return kernel(call.inputs, call.output_shapes, call.output_dtypes, call.grid, call.threadgroup,
                call.templates, call.init_value, call.verbose, call.stream);
}

RunMetalBody runner_for(const mx::Device& device) {
  const std::string kind = device == mx::Device::cpu ? "simt" : "cuda";
  for (const DeviceKind& one : all_kinds())
    if (one.kind == kind && one.run_body) return one.run_body;
  base::misuse("metal_kernel",
               "nothing here runs Metal kernels on MLX's GPU: give stream=mx.cpu, or make mx.cpu "
               "the default device");
}

}  // namespace

MetalKernel::MetalKernel(MetalKernelText text) : text_(std::move(text)) {
  if (text_.output_names.empty())
    throw std::invalid_argument("[metal_kernel] Must specify at least one output.");
}

std::vector<mx::array> MetalKernel::operator()(const MetalKernelCall& call) const {
  check_count("inputs", text_.input_names.size(), call.inputs.size());
  check_count("output_shapes", text_.output_names.size(), call.output_shapes.size());
  check_count("output_dtypes", text_.output_names.size(), call.output_dtypes.size());
  const mx::Stream stream = mx::to_stream(call.stream);
  if (stream.device == mx::Device::gpu && mx::metal::is_available()) return run_by_mlx(text_, call);
  for (size_t i = 0; i < call.output_shapes.size(); ++i) {
    double bytes = static_cast<double>(mx::size_of(call.output_dtypes[i]));
    for (const auto extent : call.output_shapes[i]) {
      if (extent < 0)
        base::misuse("metal_kernel",
                     "an output has an axis of " + std::to_string(extent) + ": give 0 or more");
      bytes *= static_cast<double>(extent);
    }
    if (bytes > kMostBytes)
      base::misuse("metal_kernel", "output " + std::to_string(i) +
                                       " has more bytes than any machine: look at output_shapes");
  }
  const Sizes grid = sizes_of(call.grid, "grid");
  Sizes group = sizes_of(call.threadgroup, "threadgroup");
  if (const int64_t threads = group[0] * group[1] * group[2]; threads > kMostThreads)
    base::misuse("metal_kernel", "a threadgroup of " + std::to_string(threads) +
                                     " threads: Metal takes at most " +
                                     std::to_string(kMostThreads));
  for (size_t d = 0; d < 3; ++d) group[d] = std::min(group[d], grid[d]);
  const MetalBody body = metal_body(text_, call);
  if (call.verbose) print_source(body);
  return runner_for(stream.device)({body, &text_, &call, grid, group, stream});
}

}  // namespace mlx_kd::devices
