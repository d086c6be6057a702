#include "mlx_kd/kernels/positions/rotary.h"

#include <mlx/fast.h>
#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <stdexcept>
#include <utility>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/reference64.h"

namespace mlx_kd::kernels {
namespace {

namespace mx = mlx::core;
using spec::Dims;
using spec::Dtype;
using enum spec::KnobScale;
using enum spec::KnobRole;

constexpr int64_t kWidest = 16384;  // kernels keep the tables of a row on the stack

double frequency_of(const RotaryNumbers& numbers, int64_t i, int64_t half) {
  if (numbers.freqs) return 1 / double(spec::load_element(numbers.freqs, i, Dtype::float32));
  return std::pow(numbers.base, -static_cast<double>(i) / static_cast<double>(half));
}

// A row of D elements at a position, after its norm.
class RotaryRow {
 public:
  RotaryRow(const RotaryRows& rows, int64_t at, const RotaryNumbers& numbers, const Dims& dims)
      : x_(rows.x.begin() + at, rows.x.begin() + at + dims.at("D")), weight_(rows.weight) {
    if (weight_.empty()) return;
    double sum = 0;
    for (const double x : x_) sum += x * x;
    const double eps = static_cast<float>(numbers.eps);
    const double by = 1 / std::sqrt(sum / static_cast<double>(x_.size()) + eps);
    for (size_t i = 0; i < x_.size(); ++i) x_[i] *= by * weight_[i];
  }

  double at(int64_t i) const { return x_[static_cast<size_t>(i)]; }
  double lost(int64_t i, double underflow) const {
    return underflow * (2 + (weight_.empty() ? 0 : std::fabs(weight_[static_cast<size_t>(i)])));
  }

 private:
  std::vector<double> x_;
  const std::vector<double>& weight_;
};

}  // namespace

std::vector<spec::Dim> rotary_attributes() {
  const auto kind = spec::Dim::Kind::attribute;
  return {{.name = "dims", .kind = kind},
          {.name = "traditional", .kind = kind},
          {.name = "ragged", .kind = kind},
          {.name = "has_freqs", .kind = kind}};
}

spec::Scalar rotary_base() {
  return {"base", 10000, {10000, 500000}, 1, 1e30, true};
}
spec::Scalar rotary_scale() {
  return {"scale", 1, {1, 0.25}, 0, 1e6, true};
}

Dims complete_rotary(const Dims& dims) {
  Dims result = dims;
  const int64_t width = dims.at("D");
  const int64_t turned = dims.at("dims") > 0 && width > 0 ? dims.at("dims") : width;
  if (turned % 2 != 0 || turned > width)
    base::misuse("kernels", "rotary dims are " + std::to_string(turned) + " of a width of " +
                                std::to_string(width) +
                                ": give an even number that is not above the width");
  if (width > kWidest)
    base::misuse("kernels", "D is " + std::to_string(width) + ": rotary heads have at most " +
                                std::to_string(kWidest) + " elements");
  result.set("dims", turned);
  result.set("traditional", dims.at("traditional") > 0);
  result.set("ragged", dims.at("ragged") > 0 && dims.at("B") > 1);
  result.set("has_freqs", dims.at("has_freqs") > 0);
  return result;
}

namespace {

spec::Shape offset_shape_of(const Dims& dims) {
  return {dims.at("ragged") ? dims.at("B") : 1};
}

}  // namespace

spec::Port rotary_offset() {
  return {.name = "offset",
          .shape = offset_shape_of,
          .type = spec::Dtype::int32,
          .int_range = [](const Dims&) {
            return std::pair<int64_t, int64_t>{std::numeric_limits<int32_t>::min(),
                                               std::numeric_limits<int32_t>::max()};
          }};
}

spec::Shape freqs_shape_of(const Dims& dims) {
  return {dims.at("has_freqs") ? dims.at("dims") / 2 : 0};
}

void read_rotary(const char* op, const RotaryShapes& shapes, const RotaryDims& dims) {
  const auto refuse = [&](const std::string& what) {
    throw std::invalid_argument("[" + std::string(op) + "] " + what);
  };
  const int64_t turned = dims.dims > 0 ? dims.dims : shapes.width;
  if (turned % 2 != 0 || turned > shapes.width)
    refuse("dims is " + std::to_string(turned) + ": give an even number that is not above D, " +
           std::to_string(shapes.width));
  if (shapes.offset.size() != 1 || (shapes.offset[0] != 1 && shapes.offset[0] != shapes.batch))
    refuse("offset has shape " + shape_text(shapes.offset) + ": it must be (1) or (" +
           std::to_string(shapes.batch) + ")");
  dims.ragged = shapes.offset[0] != 1;
  dims.has_freqs = shapes.freqs.size() != 1 || shapes.freqs[0] > 0;
  if (dims.has_freqs && (shapes.freqs.size() != 1 || shapes.freqs[0] != turned / 2))
    refuse("freqs has shape " + shape_text(shapes.freqs) + ": it must be (" +
           std::to_string(turned / 2) + "), half of dims");
  dims.dims = turned;  // in full, as in the key of a pin
}

mx::array rotated_in_mlx(const mx::array& x, const MlxRotation& by, const mx::Stream& s) {
  const mx::array offset = by.offset.size() == 1 ? mx::reshape(by.offset, {}, s) : by.offset;
  std::optional<float> base;
  if (!by.freqs) base = static_cast<float>(by.base);
  return mx::fast::rope(x, by.dims > 0 ? by.dims : x.shape(-1), by.traditional, base,
                        static_cast<float>(by.scale), offset, by.freqs, s);
}

void fill_rows(const spec::FillRequest& request, void* to, int64_t count, int64_t port) {
  base::Random random(request.seed * 1000003 + static_cast<uint64_t>(port) * 101 +
                      static_cast<uint64_t>(request.distribution));
  const auto put = [&](int64_t at, double x) {
    spec::store_element(to, at, request.t, static_cast<float>(x));
  };
  const bool wide = request.distribution == spec::Distribution::magnitudes;
  const double lo = request.t == Dtype::float16 ? -12 : -30;
  const double hi = request.t == Dtype::float16 ? 4 : 20;
  for (int64_t i = 0; i < count; ++i) {
    const double size = std::exp2(lo + (hi - lo) * random.uniform());
    const double normal = random.normal();
    put(i, wide ? std::copysign(size, normal) : normal);
  }
  const int64_t width = request.dims.at("D");
  if (request.distribution != spec::Distribution::special || count < 2 * width) return;
  const double tiny = spec::smallest_subnormal(request.t);
  const double values[] = {0, -0.0, tiny, -7 * tiny, std::numeric_limits<double>::quiet_NaN()};
  put(0, std::numeric_limits<double>::infinity());
  for (int64_t i = 0; i < 5 && i < width; ++i) put(count - 1 - i, values[i]);
}

void fill_offsets(const spec::FillRequest& request, void* offsets) {
  base::Random random(request.seed * 77 + static_cast<uint64_t>(request.distribution));
  const bool far = request.distribution == spec::Distribution::magnitudes;
  const uint64_t most = request.distribution == spec::Distribution::special ? 40 : 5000;
  for (int64_t i = 0; i < offset_shape_of(request.dims).front(); ++i) {
    const auto draw = static_cast<int64_t>(random.below(far ? 1 << 20 : most));
    spec::store_integer(offsets, i, Dtype::int32, i == 1 ? 0 : draw);
  }
}

// From 1 to about 20,000, as models have them.
void fill_freqs(const spec::FillRequest& request, void* freqs) {
  base::Random random(request.seed * 78);
  for (int64_t i = 0; i < freqs_shape_of(request.dims).front(); ++i)
    spec::store_element(freqs, i, Dtype::float32,
                        static_cast<float>(std::exp(10 * random.uniform())));
}

spec::Reference64 rotated_in_float64(const RotaryRows& rows, const RotaryNumbers& numbers,
                                     Dtype dtype, const Dims& dims) {
  const int64_t width = dims.at("D"), count = dims.at("M"), turned = dims.at("dims");
  const int64_t half = turned / 2;
  const double tiny = underflow(dtype), scale = static_cast<float>(numbers.scale);
  spec::Reference64 result;
  std::vector<double> angles(static_cast<size_t>(half)), sway(angles.size());
  for (int64_t row = 0; row * width < static_cast<int64_t>(rows.x.size()); ++row) {
    const int64_t t = row % count, b = row / count / rows.heads;
    const int64_t offset =
        spec::load_integer(numbers.offset, dims.at("ragged") ? b : 0, Dtype::int32);
    for (int64_t i = 0; i < half; ++i) {
      const double f = frequency_of(numbers, i, half);
      angles[static_cast<size_t>(i)] = static_cast<double>(offset + t) * scale * f;
      sway[static_cast<size_t>(i)] =
          std::fabs(angles[static_cast<size_t>(i)]) * (3 + 3 * std::fabs(std::log2(f)));
    }
    const RotaryRow x(rows, row * width, numbers, dims);
    for (int64_t e = 0; e < width; ++e) {
      if (e >= turned) {
        const bool normed = !rows.weight.empty();
        append(result, {x.at(e), normed ? std::fabs(x.at(e)) : 0, normed ? std::fabs(x.at(e)) : 0,
                        x.lost(e, tiny)});
        continue;
      }
      const int64_t i = dims.at("traditional") ? e / 2 : e % half;
      const bool second = dims.at("traditional") ? e % 2 : e >= half;
      const int64_t other = dims.at("traditional") ? e ^ 1 : second ? e - half : e + half;
      const double c = std::cos(angles[static_cast<size_t>(i)]);
      const double s = std::sin(angles[static_cast<size_t>(i)]);
      const double y = x.at(e) * c + (second ? x.at(other) * s : -x.at(other) * s);
      const double size = std::fabs(x.at(e)) + std::fabs(x.at(other));
      append(result,
             {y, std::fabs(y), size * (1 + sway[static_cast<size_t>(i)] / numbers.accumulated),
              x.lost(e, tiny) + x.lost(other, tiny)});
    }
  }
  saturate(result, dtype, numbers.accumulated);
  return result;
}

spec::Cost rotary_cost(const Dims& dims, int64_t elements, int64_t weights, Dtype dtype) {
  const int64_t bytes = (2 * elements + weights) * spec::size_of(dtype) +
                        4 * (offset_shape_of(dims).front() + freqs_shape_of(dims).front());
  return {static_cast<double>(bytes), 3 * static_cast<double>(elements)};
}

spec::Space cpu_rotary_space(Dtype dtype, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"HEADS", {2, 1, 4}, log2, source, "rows turned together"},
                 {"UNROLL", {1, 2}, log2, source, "steps a turn of the loop"},
                 {"EXACT", {0, 1}, choice, source, "each product is", {"fused", "rounded"}},
                 {"PREFETCH", {0, 1}, choice, source, "the next rows are", {"read", "fetched"}}};
  add_rounding_knob(space, dtype, traits);
  add_thread_knobs(space, traits, {4, 1, 2, 8, 16, 32, 64, 128}, "positions");
  return space;
}

spec::Launch launch_cpu_rotary(const Dims& dims, const spec::Setting& knobs) {
  return share_units(dims.at("B") * dims.at("M"), knobs);
}

spec::Space metal_rotary_space(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {group_knob()};
  return space;
}

spec::Launch launch_metal_rotary(const Dims& dims, int64_t heads, const spec::Setting& knobs) {
  return launch_flat(dims.at("B") * heads * dims.at("M") * 32, knobs);
}

}  // namespace mlx_kd::kernels
