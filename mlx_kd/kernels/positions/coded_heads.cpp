#include "mlx_kd/kernels/positions/coded_heads.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/affine_rows.h"

namespace mlx_kd::kernels {
namespace {

using spec::Dims;
using spec::Dtype;

constexpr int64_t kWidestCodedHead = 1024;  // the Metal kernels keep a row in threadgroup memory
constexpr const char* kCodedPorts[] = {"key_codes",   "key_scales",   "key_biases",
                                       "value_codes", "value_scales", "value_biases"};

std::string wrong_coded_width(const char* name, int64_t width, int64_t group) {
  if (width % group == 0 && width <= kWidestCodedHead) return "";
  return std::string(name) + " is " + std::to_string(width) +
         " wide: give a multiple of group_size, " + std::to_string(group) + ", of at most " +
         std::to_string(kWidestCodedHead);
}

[[noreturn]] void refuse_code(const char* op, const std::string& wrong) {
  throw std::invalid_argument("[" + std::string(op) + "] " + wrong);
}

// Bytes of a row of codes (part 0) and of its scales or biases (1, 2).
int64_t coded_row_bytes(const Dims& dims, const char* width, size_t part, Dtype t) {
  const int64_t elements = dims.at(width);
  return part == 0 ? elements * dims.at("bits") / 8
                   : elements / dims.at("group_size") * spec::size_of(t);
}

// Unit roundoff, doubled.
double doubled_roundoff(Dtype t) {
  return t == Dtype::float32 ? 0x1p-23 : t == Dtype::float16 ? 0x1p-10 : 0x1p-7;
}

// One group of a new key: its codes, and what the elements are in float64.
struct CodedGroup {
  const std::byte *codes, *scales, *biases;
  int64_t g, group, bits;
  Dtype t;
  const spec::Reference64& wanted;
  int64_t first;  // of the elements in `wanted`
};

struct WorstOfCodes {
  double element = 0, mean = 0;
};

// Errors of the elements, and their mean, in what a code allows. Ends of a group are off by at most
// a step, others by half a step; scale and bias are rounded.
void judge_group(const CodedGroup& of, double accumulated, WorstOfCodes& worst) {
  const double scale = spec::load_element(of.scales, of.g, of.t);
  const double bias = spec::load_element(of.biases, of.g, of.t);
  const auto begin = of.wanted.y.begin() + of.first;
  const auto [low, high] = std::minmax_element(begin, begin + of.group);
  const double step = std::max((*high - *low) / ((1 << of.bits) - 1), 1e-7);
  double errors = 0, slack = 0;
  for (int64_t i = 0; i < of.group; ++i) {
    const auto at = static_cast<size_t>(of.first + i);
    const int64_t bit = (of.g * of.group + i) * of.bits;
    const double code = static_cast<int>(of.codes[bit / 8]) >> (bit % 8) & ((1 << of.bits) - 1);
    const double y = of.wanted.y[at];
    const double rotation = doubled_roundoff(of.t) * of.wanted.rounded[at] +
                            accumulated * 0x1p-24 * of.wanted.terms[at] + 1e-7;
    const double rounding =
        2 * rotation + doubled_roundoff(of.t) * (std::fabs(scale) * code + std::fabs(bias));
    const double error = std::fabs(scale * code + bias - y);
    worst.element = std::max(worst.element, error / (1.1 * step + rounding));
    if (!std::isfinite(error)) worst.element = error;
    errors += error, slack += rounding;
  }
  worst.mean = std::max(worst.mean, errors / (0.4 * step * static_cast<double>(of.group) + slack));
}

// Of each row of the cache: the new row that goes there, or -1.
std::vector<int64_t> new_rows(const CodedPlaces& places) {
  std::vector<int64_t> result(static_cast<size_t>(places.rows), -1);
  for (size_t i = 0; i < places.of_new.size(); ++i)
    if (places.of_new[i] >= 0)
      result[static_cast<size_t>(places.of_new[i])] = static_cast<int64_t>(i);
  return result;
}

}  // namespace

Dims complete_coded_heads(const Dims& dims) {
  const int64_t group = dims.at("group_size");
  std::string wrong = wrong_code(dims.at("bits"), group);
  for (const char* width : {"D", "Dv"})
    if (wrong.empty()) wrong = wrong_coded_width(width, dims.at(width), group);
  if (!wrong.empty()) base::misuse("kernels", wrong);
  return complete_heads(dims);
}

void check_code(const char* op, int64_t bits, int64_t group) {
  if (const std::string wrong = wrong_code(bits, group); !wrong.empty()) refuse_code(op, wrong);
}

void check_coded_cache(const PortShapes& shapes, std::span<const spec::ArrayView> in,
                       const CodedCacheSize& size) {
  for (const size_t part : {0, 3}) {
    const int64_t width = part == 0 ? size.d : size.dv;
    const auto wrong = wrong_coded_width(part == 0 ? "k" : "v", width, size.group);
    if (!wrong.empty()) refuse_code(shapes.op, wrong);
    shapes.check(part, in[part], {size.first, size.heads, size.length, width * size.bits / 32});
    for (const size_t more : {part + 1, part + 2})
      shapes.check(more, in[more], {size.first, size.heads, size.length, width / size.group});
  }
}

std::vector<spec::Port> coded_cache_ports(bool in_pages) {
  std::vector<spec::Port> ports;
  for (const size_t first : {0, 3}) {
    const char* width = first == 0 ? "D" : "Dv";
    const auto codes = in_pages ? codes_of_pages("Hk", width) : codes_of("Hk", width);
    const auto groups = in_pages ? groups_of_pages("Hk", width) : groups_of("Hk", width);
    ports.push_back({.name = kCodedPorts[first], .shape = codes, .type = Dtype::uint32});
    ports.push_back({kCodedPorts[first + 1], groups});
    ports.push_back({kCodedPorts[first + 2], groups});
  }
  return ports;
}

std::vector<spec::Port> coded_cache_outputs(bool in_pages) {
  std::vector<spec::Port> ports = coded_cache_ports(in_pages);
  for (size_t i = 0; i < ports.size(); ++i) {
    ports[i].updates = ports[i].name;
    ports[i].name += "_out";
    ports[i].judge = i < 3 ? spec::Judge::residuals : spec::Judge::exact;
  }
  ports.push_back({"q_out", shape_of({"B", "Hq", "M", "D"})});
  return ports;
}

std::vector<spec::Dim> coded_head_attributes() {
  const auto attribute = spec::Dim::Kind::attribute;
  std::vector<spec::Dim> dims;
  for (const spec::Dim& one : head_attributes()) {
    dims.push_back(one);
    if (one.name != "traditional") continue;  // those that a caller gives come first
    dims.push_back({.name = "bits", .kind = attribute, .default_value = 8});
    dims.push_back({.name = "group_size", .kind = attribute, .default_value = 64});
  }
  return dims;
}

spec::Cost cost_of_coded_append(const Dims& dims, Dtype dtype) {
  const int64_t weights = (dims.at("has_wq") + dims.at("has_wk")) * dims.at("D");
  const int64_t rows = dims.at("B") * dims.at("M"), element = spec::size_of(dtype);
  const int64_t queries = rows * dims.at("Hq") * dims.at("D");
  const int64_t added = rows * dims.at("Hk") * (dims.at("D") + dims.at("Dv"));
  spec::Cost cost = rotary_cost(dims, queries, weights, dtype);
  cost.bytes += static_cast<double>(added * element + added * dims.at("bits") / 8 +
                                    2 * element * added / dims.at("group_size"));
  cost.flops += static_cast<double>(6 * added);
  return cost;
}

spec::Space metal_coded_space(Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {{"ROWS", {1, 2, 4}, log2, source, "keys and values of a threadgroup"},
                 {"QUERIES", {1, 2, 4, 8}, log2, launch, "queries of a threadgroup"}};
  return space;
}

std::vector<spec::Stage> metal_coded_stages(const std::string& function, const Dims& dims,
                                            const spec::Setting& knobs) {
  // Threadgroups are whole: of as many rows as the knob says, or half of them, and so on.
  const auto launch = [](int64_t rows, int64_t most) {
    while (rows % most) most /= 2;
    spec::Launch made;
    made.group[0] = 32 * most, made.grid[0] = 32 * rows;
    return made;
  };
  const int64_t rows = dims.at("B") * dims.at("M");
  const spec::Launch queries = launch(rows * dims.at("Hq"), knobs.at("QUERIES"));
  const spec::Launch keys = launch(rows * 2 * dims.at("Hk"), knobs.at("ROWS"));
  return {{function + "_queries", queries}, {function, keys}};
}

void fill_coded_append(const spec::FillRequest& request, size_t offset, int64_t rows,
                       base::Random& random) {
  const Dims& dims = request.dims;
  for (size_t port = 0; port < kCodedArrays; ++port) {
    auto* const to = static_cast<uint8_t*>(request.inputs[port]);
    const int64_t row = coded_row_bytes(dims, port < 3 ? "D" : "Dv", port % 3, request.t);
    for (int64_t i = 0; i < rows * row; ++i) to[i] = static_cast<uint8_t>(random.next() >> 56);
  }
  spec::FillRequest plain = request;
  plain.distribution = spec::Distribution::normal;
  fill_new_heads(request, kCodedQ, true);
  fill_offsets(request, request.inputs[offset]);
  fill_head_weights(plain, offset);
}

std::vector<spec::Reference64> turned_queries(const std::vector<const void*>& in, size_t offset,
                                              Dtype dtype, const Dims& dims,
                                              const std::vector<double>& scalars) {
  std::vector<spec::Reference64> result(kCodedArrays + 1);
  result.back() = HeadReference(in, offset, dtype, dims, scalars).queries(kCodedQ);
  return result;
}

void append_coded_values(const std::vector<const void*>& in, Dtype t, const Dims& dims,
                         const CodedPlaces& places, const std::vector<void*>& outputs) {
  const int64_t width = dims.at("Dv");
  int64_t bytes[3];
  for (size_t part = 0; part < 3; ++part) {
    bytes[part] = coded_row_bytes(dims, "Dv", part, t);
    std::memcpy(outputs[3 + part], in[3 + part], static_cast<size_t>(places.rows * bytes[part]));
  }
  const auto to = [&](size_t part, int64_t row) {
    return static_cast<std::byte*>(outputs[3 + part]) + row * bytes[part];
  };
  for (size_t i = 0; i < places.of_new.size(); ++i)
    if (const int64_t row = places.of_new[i]; row >= 0)
      quantize_row(in[kCodedV], static_cast<int64_t>(i) * width, width, dims.at("bits"),
                   dims.at("group_size"), t, {to(0, row), to(1, row), to(2, row)});
}

std::vector<spec::Residual> residuals_of_coded_keys(const spec::JudgedCase& judged, size_t offset,
                                                    const CodedPlaces& places) {
  const Dims& dims = judged.dims;
  const int64_t width = dims.at("D"), group = dims.at("group_size");
  const spec::Reference64 keys =
      HeadReference(judged.inputs, offset, judged.t, dims, judged.scalars).keys(kCodedK);
  const double accumulated = bound_of_heads(dims).accumulated;
  const std::vector<int64_t> new_of = new_rows(places);
  WorstOfCodes worst;
  double changed = 0;
  for (int64_t row = 0; row < places.rows; ++row) {
    const int64_t added = new_of[static_cast<size_t>(row)];
    const std::byte* now[3];
    for (size_t part = 0; part < 3; ++part) {
      const int64_t bytes = coded_row_bytes(dims, "D", part, judged.t);
      now[part] = static_cast<const std::byte*>(judged.outputs[part]) + row * bytes;
      const auto* const before = static_cast<const std::byte*>(judged.inputs[part]) + row * bytes;
      if (added < 0 && std::memcmp(now[part], before, static_cast<size_t>(bytes)) != 0) ++changed;
    }
    for (int64_t g = 0; added >= 0 && g < width / group; ++g)
      judge_group({now[0], now[1], now[2], g, group, dims.at("bits"), judged.t, keys,
                   added * width + g * group},
                  accumulated, worst);
  }
  return {{"|scale code + bias - k| in steps and roundings", worst.element, 1},
          {"the mean of that in 0.4 steps", worst.mean, 1},
          {"rows of keys that changed and are not new", changed, 0}};
}

}  // namespace mlx_kd::kernels
