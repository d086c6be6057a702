#include <mlx/ops.h>

#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/affine_rows.h"
#include "mlx_kd/kernels/common/cache_rows.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_kv_append_quantized();

namespace kv_append_quantized {
namespace {

using spec::ArrayView;
using spec::Dims;
using spec::Dtype;
using spec::Shape;
namespace mx = mlx::core;

enum DimIndex { kS, kB, kH, kM, kDk, kDv, kBits, kGroup, kRagged };
enum PortIndex { kNewKeys = 6, kNewValues, kOffset };

Dims complete(const Dims& dims) {
  const int64_t group = dims.at("group_size");
  if (const std::string wrong = wrong_code(dims.at("bits"), group); !wrong.empty())
    base::misuse("kernels", wrong);
  for (const char* width : {"Dk", "Dv"})
    if (dims.at(width) % group != 0)
      base::misuse("kernels", std::string(width) + " is " + std::to_string(dims.at(width)) +
                                  ": give a multiple of group_size, " + std::to_string(group));
  return complete_places(dims);
}

constexpr const char* kPorts[] = {"key_codes",   "key_scales",   "key_biases",
                                  "value_codes", "value_scales", "value_biases",
                                  "new_keys",    "new_values",   "offset"};

constexpr PortShapes kShapes = {"kv_append_quantized", kPorts, "new_keys and key_codes say"};

void signature(std::span<const ArrayView> in, std::span<const double>, std::span<int64_t> dims) {
  const int64_t bits = dims[kBits], group = dims[kGroup];
  if (const std::string wrong = wrong_code(bits, group); !wrong.empty())
    throw std::invalid_argument("[kv_append_quantized] " + wrong);
  for (const size_t port : {size_t(0), size_t(kNewKeys), size_t(kNewValues)})
    if (in[port].shape.size() != 4)
      kShapes.refuse(port, in[port], "of 4 axes: (B, H, rows, width)");
  const auto keys = in[kNewKeys].shape;
  dims[kB] = keys[0], dims[kH] = keys[1], dims[kM] = keys[2], dims[kDk] = keys[3];
  dims[kDv] = in[kNewValues].shape[3], dims[kS] = in[0].shape[2];
  kShapes.check(kNewValues, in[kNewValues], {dims[kB], dims[kH], dims[kM], dims[kDv]});
  for (const size_t part : {0, 3}) {
    const int64_t width = dims[part == 0 ? kDk : kDv];
    if (width % group != 0)
      kShapes.refuse(part == 0 ? kNewKeys : kNewValues, in[part == 0 ? kNewKeys : kNewValues],
                     "of a width that is a multiple of group_size, " + std::to_string(group));
    kShapes.check(part, in[part], {dims[kB], dims[kH], dims[kS], width * bits / 32});
    for (const size_t more : {part + 1, part + 2})
      kShapes.check(more, in[more], {dims[kB], dims[kH], dims[kS], width / group});
  }
  const auto offset = in[kOffset].shape;
  if (offset.size() != 1 || (offset[0] != 1 && offset[0] != dims[kB]))
    kShapes.refuse(kOffset, in[kOffset], "(1) or (" + std::to_string(dims[kB]) + ")");
  dims[kRagged] = offset[0] != 1;
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mx::Stream& s) {
  const int bits = static_cast<int>(numbers[0]);
  const int group = static_cast<int>(numbers[1]);
  spec::Op::Arrays added = mx::quantize(in[kNewKeys], group, bits, "affine", {}, s);
  for (const mx::array& one : mx::quantize(in[kNewValues], group, bits, "affine", {}, s))
    added.push_back(one);
  return append_in_mlx({in.begin(), in.begin() + 6}, added, in[kOffset], s);
}

// Keys (part 0) or values (1).
void append_part(const std::vector<const void*>& inputs, Dtype t, const Dims& dims, size_t part,
                 const std::vector<void*>& outputs) {
  const int64_t width = dims.at(part ? "Dv" : "Dk"), group = dims.at("group_size");
  const int64_t bits = dims.at("bits"), heads = dims.at("H"), rows = dims.at("S");
  const int64_t added = dims.at("M"), code_bytes = width * bits / 8;
  const int64_t scale_bytes = width / group * spec::size_of(t);
  std::array<std::byte*, 3> to;
  for (size_t i = 0; i < 3; ++i) {
    to[i] = static_cast<std::byte*>(outputs[3 * part + i]);
    const int64_t bytes = dims.at("B") * heads * rows * (i == 0 ? code_bytes : scale_bytes);
    std::memcpy(to[i], inputs[3 * part + i], static_cast<size_t>(bytes));
  }
  for (int64_t head = 0; head < dims.at("B") * heads; ++head) {
    const int64_t first = first_row(inputs[kOffset], dims, head / heads);
    for (int64_t m = 0; m < added && first >= 0; ++m) {
      const int64_t row = head * rows + first + m;
      quantize_row(
          inputs[kNewKeys + part], (head * added + m) * width, width, bits, group, t,
          {to[0] + row * code_bytes, to[1] + row * scale_bytes, to[2] + row * scale_bytes});
    }
  }
}

void exact(const std::vector<const void*>& inputs, Dtype t, const Dims& dims,
           const std::vector<double>&, const std::vector<void*>& outputs) {
  append_part(inputs, t, dims, 0, outputs);
  append_part(inputs, t, dims, 1, outputs);
}

// What is there: any bits. What is new: numbers of all sizes; in special cases groups that are
// constant, zero, or of one sign.
void fill(const spec::FillRequest& request) {
  const Dims& dims = request.dims;
  base::Random random(request.seed * 131 + static_cast<uint64_t>(request.distribution));
  for (size_t port = 0; port < 6; ++port) {
    const int64_t width = dims.at(port < 3 ? "Dk" : "Dv"), group = dims.at("group_size");
    const int64_t row =
        port % 3 == 0 ? width * dims.at("bits") / 8 : width / group * spec::size_of(request.t);
    auto* to = static_cast<uint8_t*>(request.inputs[port]);
    for (int64_t i = 0; i < dims.at("B") * dims.at("H") * dims.at("S") * row; ++i)
      to[i] = static_cast<uint8_t>(random.next() >> 56);
  }
  const bool wide = request.distribution == spec::Distribution::magnitudes;
  const bool special = request.distribution == spec::Distribution::special;
  const double most = request.t == Dtype::float16 ? 12 : 30;
  for (const size_t port : {size_t(kNewKeys), size_t(kNewValues)}) {
    const int64_t group = dims.at("group_size");
    const int64_t groups = dims.at("B") * dims.at("H") * dims.at("M") *
                           dims.at(port == kNewKeys ? "Dk" : "Dv") / group;
    for (int64_t g = 0; g < groups; ++g) {
      const double size = wide ? std::exp2((2 * random.uniform() - 1) * most) : 1;
      const auto kind = special ? random.below(5) : 4;
      const double same = random.normal();
      for (int64_t i = 0; i < group; ++i) {
        const double x = size * random.normal();
        const double values[] = {same, 0.0, std::fabs(x), -std::fabs(x), x};
        spec::store_element(request.inputs[port], g * group + i, request.t,
                            static_cast<float>(values[kind]));
      }
    }
  }
  fill_offsets(request, kOffset, random);
}

// --- kernels ---

spec::Space space(Dtype, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"UNROLL",
                  {1, 2, 4},
                  spec::KnobScale::log2,
                  spec::KnobRole::source,
                  "vectors of a group in one turn"}};
  add_thread_knobs(space, traits, {64, 8, 16, 32, 128, 256, 512}, "new rows");
  return space;
}

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {group_knob()};
  return space;
}

spec::Launch launch_metal(const Dims& dims, const spec::Setting& knobs) {
  const int64_t rows = dims.at("B") * dims.at("H") * dims.at("M");
  return launch_flat(32 * rows * (divide_up(dims.at("Dk"), 128) + divide_up(dims.at("Dv"), 128)),
                     knobs);
}

spec::Cost cost(const Dims& dims, Dtype dtype) {
  const int64_t rows = dims.at("B") * dims.at("H") * dims.at("M");
  const int64_t width = dims.at("Dk") + dims.at("Dv"), element = spec::size_of(dtype);
  const int64_t written = width * dims.at("bits") / 8 + 2 * element * width / dims.at("group_size");
  return {static_cast<double>(rows * (width * element + written) + 4 * offset_shape(dims).front()),
          static_cast<double>(6 * rows * width)};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "Quantises new keys and values into a cache, in place: each group of group_size elements of "
      "a "
      "row by the affine rule of mx.quantize. Batch row b of new_keys and new_values goes to rows "
      "offset[b], offset[b] + 1, .. ; all other rows keep their bits. The memory of the cache is "
      "reused if nothing else holds it, and copied otherwise.";
  doc.parameters = {
      {"key_codes", "uint32 [B, H, S, Dk bits / 32], the cache"},
      {"key_scales", "[B, H, S, Dk / group_size]"},
      {"key_biases", "[B, H, S, Dk / group_size]"},
      {"value_codes", "uint32 [B, H, S, Dv bits / 32]; Dv may differ from Dk"},
      {"value_scales", "[B, H, S, Dv / group_size]"},
      {"value_biases", "[B, H, S, Dv / group_size]"},
      {"new_keys", "[B, H, M, Dk], finite, of any strides whose last is 1"},
      {"new_values", "[B, H, M, Dv], likewise"},
      {"offset",
       "int32 [1] for all batch rows, or [B]; or an int. A batch row whose offset is negative or "
       "above S - M is not written"},
      {"bits", "4 or 8"},
      {"group_size", "32, 64 or 128: a divisor of Dk and Dv"}};
  doc.returns = "The six updated arrays of the cache.";
  doc.errors =
      "Shapes that do not go together; other bits and groups; an offset that is not int32; an int "
      "that is negative or above S - M.";
  return doc;
}

Dims size(int64_t b, int64_t h, int64_t m, int64_t dk, int64_t dv, int64_t bits, int64_t group,
          int64_t s = 4096) {
  return {{"S", s},         {"B", b},   {"H", h},       {"M", m},
          {"Dk", dk},       {"Dv", dv}, {"bits", bits}, {"group_size", group},
          {"ragged", b > 1}};
}

// Every code, one row, a cache that is full, keys and values of different widths.
std::vector<Dims> edge_sizes() {
  return {size(1, 1, 1, 32, 32, 8, 32, 1),    size(3, 2, 1, 64, 32, 4, 32, 9),
          size(4, 3, 5, 128, 64, 8, 64, 5),   size(2, 1, 3, 256, 128, 4, 128, 12),
          size(1, 2, 7, 128, 128, 8, 128, 7), size(1, 2, 4, 64, 192, 4, 64, 6)};
}

std::vector<spec::Port> inputs() {
  std::vector<spec::Port> ports;
  for (const bool value : {false, true}) {
    const char* width = value ? "Dv" : "Dk";
    const size_t first = value ? 3 : 0;
    ports.push_back({.name = kPorts[first], .shape = codes_of("H", width), .type = Dtype::uint32});
    ports.push_back({kPorts[first + 1], groups_of("H", width)});
    ports.push_back({kPorts[first + 2], groups_of("H", width)});
  }
  ports.push_back({.name = "new_keys", .shape = cache_rows("M", "Dk"), .strided = true});
  ports.push_back({.name = "new_values", .shape = cache_rows("M", "Dv"), .strided = true});
  ports.push_back(offset_port());
  return ports;
}

std::vector<spec::Port> outputs() {
  std::vector<spec::Port> ports = inputs();
  ports.resize(6);
  for (spec::Port& port : ports) {
    port.updates = port.name;
    port.name += "_out";
    port.judge = spec::Judge::exact;
  }
  return ports;
}

}  // namespace
}  // namespace kv_append_quantized

spec::Op make_kv_append_quantized() {
  using namespace kv_append_quantized;
  const auto attribute = spec::Dim::Kind::attribute;
  spec::Op op;
  op.name = "kv_append_quantized";
  op.summary = "new keys and values quantised into a cache, in place";
  op.doc = doc();
  op.inputs = inputs();
  op.outputs = outputs();
  op.dims = {{.name = "S", .free = true},
             {"B"},
             {"H"},
             {"M"},
             {"Dk"},
             {"Dv"},
             {.name = "bits", .kind = attribute, .default_value = 8},
             {.name = "group_size", .kind = attribute, .default_value = 64},
             {.name = "ragged", .kind = attribute}};
  op.batch_dim = "S";
  op.suites = {{"decode", {size(1, 8, 1, 128, 128, 8, 64), size(1, 8, 1, 128, 128, 4, 64)}},
               {"decode_batches", {size(8, 8, 1, 128, 128, 8, 64, 2048)}},
               {"prefill", {size(1, 8, 128, 128, 128, 8, 64)}}};
  op.edge_sizes = edge_sizes();
  op.complete = complete;
  op.signature = signature;
  op.cost = cost;
  op.mlx = mlx_form;
  op.exact = exact;
  op.fill = fill;
  op.variants = {
      {"rows", "cpp", kernel_source("kv_cache/kv_append_quantized/kv_append_quantized.cpu.cpp"),
       "mlx_kd_kv_append_quantized", "cpp_arguments", space,
       [](const Dims& dims, const spec::Setting& knobs) {
         return share_units(dims.at("B") * dims.at("H") * dims.at("M"), knobs);
       }},
      {"groups", "metal", kernel_source("kv_cache/kv_append_quantized/kv_append_quantized.metal"),
       "mlx_kd_kv_append_quantized", "metal_flat", metal_space, launch_metal}};
  return op;
}

}  // namespace mlx_kd::kernels
