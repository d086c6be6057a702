#include "mlx_kd/devices/simt/simt_check.h"

#include <cstring>

#include "mlx_kd/devices/metal_text/metal_source.h"
#include "mlx_kd/devices/simt/session.h"
#include "mlx_kd/devices/simt/simt_program.h"

namespace mlx_kd::devices::simt {
namespace {

using Holds = MetalArgument::Holds;
using Bytes = std::span<const std::byte>;

constexpr double kLimit_s = 20;

HostArray array_of(const MetalArgument& argument, size_t bytes) {
  HostArray array;
  array.name = argument.name;
  array.type = host_type(argument.type);
  if (array.type.empty()) array.type = "u8";  // any type is taken where the kernel's is its own
  array.shape = {static_cast<int64_t>(bytes / type_bytes(array.type))};
  array.words.resize((bytes + 7) / 8);
  return array;
}

HostArray filled(const MetalArgument& argument, Bytes bytes) {
  HostArray array = array_of(argument, bytes.size());
  if (!bytes.empty()) std::memcpy(array.data(), bytes.data(), bytes.size());
  return array;
}

std::vector<HostArray> arrays_of(const std::vector<MetalArgument>& arguments,
                                 const std::vector<Bytes>& inputs,
                                 const std::vector<size_t>& output_bytes, const Call& call) {
  const std::vector<Number> numbers = metal_numbers(arguments, call);
  std::vector<HostArray> result;
  size_t number = 0;
  for (const MetalArgument& one : arguments) {
    if (one.holds == Holds::input)
      result.push_back(filled(one, inputs[one.port]));
    else if (one.holds == Holds::output)
      result.push_back(array_of(one, output_bytes[one.port]));
    else
      result.push_back(
          filled(one, Bytes(numbers[number++]).first(type_bytes(host_type(one.type)))));
  }
  return result;
}

}  // namespace

std::vector<std::string> find_faults(const MetalText& source, const spec::Candidate& candidate,
                                     const std::vector<Bytes>& inputs,
                                     const std::vector<size_t>& output_bytes, const Call& call) {
  const Described found = describe(source, candidate.func_name);
  Request request;
  request.kernel = candidate.func_name;
  request.grid = size3(call.launch().grid, "grid");
  request.threadgroup = size3(call.launch().group, "threadgroup");
  request.arrays = arrays_of(metal_arguments(found.kernel, *found.sources, candidate), inputs,
                             output_bytes, call);
  request.launch.timeout_s = kLimit_s;
  request.check_races = request.check_memory = true;
  return Session(source.file, source.text, source.options, {}).run(request).findings;
}

}  // namespace mlx_kd::devices::simt
