#include "mlx_kd/kernels/positions/normed_heads.h"

#include <mlx/fast.h>

#include <cmath>
#include <stdexcept>

#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/common/shapes.h"

namespace mlx_kd::kernels {

using spec::Dims;

namespace {

// Of a norm's weight (D), which is there where the attribute says so.
std::function<spec::Shape(const Dims&)> weight_if(const char* attribute) {
  return
      [attribute](const Dims& dims) { return spec::Shape{dims.at(attribute) ? dims.at("D") : 0}; };
}

// Whether a call has it; refused where it has another shape.
bool has_weight(const char* op, const char* name, const spec::ArrayView& weight, int64_t width) {
  if (is_left_out(weight)) return false;
  if (weight.shape.size() != 1 || weight.shape[0] != width)
    throw std::invalid_argument("[" + std::string(op) + "] " + name + " has shape " +
                                shape_text(weight.shape) + ": it must be (" +
                                std::to_string(width) + "), as q says");
  return true;
}

}  // namespace

std::vector<spec::Port> head_ports() {
  return {
      {.name = "wq", .shape = weight_if("has_wq"), .optional = true},
      {.name = "wk", .shape = weight_if("has_wk"), .optional = true},
      {.name = "freqs", .shape = freqs_shape_of, .type = spec::Dtype::float32, .optional = true}};
}

std::vector<spec::Dim> head_attributes() {
  std::vector<spec::Dim> dims = rotary_attributes();
  for (const char* weight : {"has_wq", "has_wk"})
    dims.push_back({.name = weight, .kind = spec::Dim::Kind::attribute});
  return dims;
}

std::vector<spec::DocLine> head_parameters() {
  return {{"wq", "[D]: the weight of the norm of each query head"},
          {"wk", "[D]: the weight of the norm of each key head"},
          {"freqs", "float32 [dims / 2]: pair i is turned by position * scale / freqs[i]"},
          {"eps", "Of the norms, positive"},
          {"base", "Of the frequencies, above 1; not used with freqs"},
          {"scale", "Of the positions"},
          {"dims", "The first elements of a row that are turned, an even number; 0: all"},
          {"traditional", "1: pairs are (2i, 2i + 1), 0: (i, i + dims / 2)"}};
}

void read_heads(const char* op, std::span<const spec::ArrayView> in, size_t offset, int64_t batch,
                int64_t width, const HeadDims& dims) {
  dims.has_wq = has_weight(op, "wq", in[offset + 1], width);
  dims.has_wk = has_weight(op, "wk", in[offset + 2], width);
  read_rotary(op, {batch, width, in[offset].shape, in[offset + 3].shape}, dims.rotary);
}

Dims complete_heads(const Dims& dims) {
  Dims result = complete_rotary(dims);
  for (const char* weight : {"has_wq", "has_wk"}) result.set(weight, dims.at(weight) > 0);
  return result;
}

mlx::core::array heads_in_mlx(const mlx::core::array& x, const mlx::core::array& weight, double eps,
                              const MlxRotation& by, const mlx::core::Stream& s) {
  const bool normed = !is_left_out(weight);
  return rotated_in_mlx(
      normed ? mlx::core::fast::rms_norm(x, weight, static_cast<float>(eps), s) : x, by, s);
}

MlxRotation head_rotation(const spec::Op::Arrays& in, size_t offset,
                          std::span<const double> numbers) {
  MlxRotation by = {
      static_cast<int>(numbers[3]), numbers[4] > 0, numbers[1], numbers[2], in[offset], {}};
  if (!is_left_out(in[offset + 3])) by.freqs = in[offset + 3];
  return by;
}

void fill_head_weights(const spec::FillRequest& request, size_t offset) {
  const auto fill = [&](const char* attribute, size_t port) {
    if (request.dims.at(attribute))
      fill_rows(request, request.inputs[port], request.dims.at("D"), static_cast<int64_t>(port));
  };
  fill("has_wq", offset + 1);
  fill("has_wk", offset + 2);
  fill_freqs(request, request.inputs[offset + 3]);
}

HeadReference::HeadReference(const std::vector<const void*>& in, size_t offset, spec::Dtype dtype,
                             const Dims& dims, const std::vector<double>& scalars)
    : in_(in),
      offset_(offset),
      dtype_(dtype),
      dims_(dims),
      numbers_{scalars[0],
               scalars[1],
               scalars[2],
               in[offset],
               dims.at("has_freqs") ? in[offset + 3] : nullptr,
               bound_of_heads(dims).accumulated} {}

spec::Reference64 HeadReference::heads(size_t port, const char* count, size_t weight,
                                       const char* attribute) const {
  const int64_t elements = dims_.at("B") * dims_.at(count) * dims_.at("M") * dims_.at("D");
  RotaryRows rows = {load_all(in_[port], elements, dtype_), {}, dims_.at(count)};
  if (dims_.at(attribute)) rows.weight = load_all(in_[weight], dims_.at("D"), dtype_);
  return rotated_in_float64(rows, numbers_, dtype_, dims_);
}

spec::ErrorBound bound_of_heads(const Dims& dims) {
  if (!dims.at("has_wq") && !dims.at("has_wk")) return {kRotaryRoundings, kRotaryDerivation};
  return {
      kRotaryRoundings + 3 * std::sqrt(static_cast<double>(dims.at("D"))) + 9,
      std::string(kRotaryDerivation) +
          " The scale of a norm: half of 6 sqrt(D) for a sum of D squares (Higham and Mary 2019, "
          "theorem 2.4) and 7 for the other steps; 2 for the products with it and the weight."};
}

bool norms_heads(const spec::ModelConfig& config) {
  return config.is_type("qwen3") || config.is_type("gemma3") || config.is_type("lfm2");
}

}  // namespace mlx_kd::kernels
