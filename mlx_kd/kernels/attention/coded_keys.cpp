#include "mlx_kd/kernels/attention/coded_keys.h"

#include <cmath>
#include <utility>

#include "mlx_kd/kernels/attention/key_parts.h"
#include "mlx_kd/kernels/common/affine_rows.h"
#include "mlx_kd/kernels/common/cpu_space.h"

namespace mlx_kd::kernels::attention {
namespace {

constexpr int64_t kWidestCoded = 1024;  // kernels keep rows on the stack

}  // namespace

std::string wrong_coded_heads(int64_t bits, int64_t group, int64_t dk, int64_t dv) {
  if (std::string wrong = wrong_code(bits, group); !wrong.empty()) return wrong;
  for (const int64_t width : {dk, dv})
    if (width % group != 0 || width > kWidestCoded)
      return "a head is " + std::to_string(width) + " wide: it must be a multiple of group_size, " +
             std::to_string(group) + ", of at most " + std::to_string(kWidestCoded);
  return "";
}

spec::Space coded_space(spec::Dtype dtype, const spec::DeviceTraits& traits,
                        std::vector<int64_t> keys) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  const bool digits = has_isa(traits, {"avx512vnni", "avx512vbmi"});
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"ROWS", {4, 1, 2}, log2, source, "query rows of a block"},
                 {"TILE", {64, 32, 128}, log2, source, "keys at a time"},
                 {"PREFETCH", {1, 0}, choice, source, "keys and values are", {"fetched", "read"}},
                 keys_knob(std::move(keys))};
  if (digits) {
    space.knobs[1].values.push_back(8);
    space.knobs.push_back({"DIGITS", {1, 0}, choice, source, "codes are", {"bytes", "floats"}});
  }
  add_rounding_knob(space, dtype, traits);
  add_thread_knobs(space, traits, {1, 2, 4}, "blocks");
  if (digits)
    space.constraints.push_back(
        {"bytes take the widest vectors and whole fours of rows",
         {"DIGITS", "VEC", "ROWS"},
         [](const int64_t* v) { return v[0] == 1 ? v[1] == 64 && v[2] >= 4 : v[2] <= 4; }});
  return space;
}

SizedNumbers numbers_of_codes(const std::vector<const void*>& in, size_t port, spec::Dtype t,
                              const spec::Dims& dims, int64_t count) {
  SizedNumbers numbers;
  const int64_t bits = dims.at("bits"), group = dims.at("group_size");
  const auto* const codes = static_cast<const uint8_t*>(in[port]);
  numbers.value.reserve(static_cast<size_t>(count));
  numbers.size.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const int code = codes[i * bits / 8] >> (i * bits % 8) & ((1 << bits) - 1);
    const double scaled =
        code * static_cast<double>(spec::load_element(in[port + 1], i / group, t));
    const double bias = spec::load_element(in[port + 2], i / group, t);
    numbers.value.push_back(scaled + bias);
    numbers.size.push_back(std::fabs(scaled) + std::fabs(bias));
  }
  return numbers;
}

void fill_codes(const spec::FillRequest& request, size_t port, int64_t count, double size,
                base::Random& random) {
  const int64_t bits = request.dims.at("bits");
  const auto put = [&](size_t part, int64_t at, double value) {
    spec::store_element(request.inputs[port + part], at, request.t, static_cast<float>(value));
  };
  auto* const codes = static_cast<uint8_t*>(request.inputs[port]);
  for (int64_t i = 0; i < count * bits / 8; ++i)
    codes[i] = static_cast<uint8_t>(random.next() >> 56);
  const double step = size * 4 / ((1 << bits) - 1);
  for (int64_t i = 0; i < count / request.dims.at("group_size"); ++i) {
    put(1, i, step * (0.5 + random.uniform()));
    put(2, i, size * (-2 + 0.5 * random.normal()));
  }
}

}  // namespace mlx_kd::kernels::attention
