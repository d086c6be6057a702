#include "mlx_kd/devices/null/null_device.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"

namespace mlx_kd::devices::null {
namespace {

// FNV-1a, finished by SplitMix64.
uint64_t hash_of(const std::string& text) {
  uint64_t state = 0xcbf29ce484222325ull;
  for (const char c : text) state = (state ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return base::Random(state).next();
}

// Uniform in [0, 1), from a text.
double fraction_of(const std::string& text) {
  return static_cast<double>(hash_of(text) >> 11) * 0x1.0p-53;
}

// log2(1 + value), linear between powers of two.
double log2_like(int64_t value) {
  const uint64_t shifted = static_cast<uint64_t>(value < 0 ? -value : value) + 1;
  const int exponent = std::bit_width(shifted) - 1;
  return exponent +
         (static_cast<double>(shifted) / static_cast<double>(uint64_t(1) << exponent) - 1);
}

std::vector<spec::Setting::Item> sorted_items(const spec::NamedInts& list) {
  auto items = list.items();
  std::sort(items.begin(), items.end());
  return items;
}

// What a call costs at the bottom of the bowl: a launch, and memory at about 8 bytes a ns.
double floor_us(const spec::Dims& dims, spec::Dtype dtype) {
  double elements = 0;
  for (const auto& item : dims.items()) elements += static_cast<double>(item.second);
  return 1 + elements * static_cast<double>(spec::size_of(dtype)) / 8000;
}

// Distance of a knob's value from where it is best, in octaves / 4.
double offset_of(const spec::Candidate& candidate, const std::string& knob, int64_t value,
                 double size) {
  const std::string where = candidate.op_name + "/" + candidate.variant + "/" + knob;
  const double drift = (fraction_of(where + "/drift") - 0.5) * size / 16;
  const double best = 0.5 + 4 * fraction_of(where + "/" + spec::name_of(candidate.dtype)) + drift;
  return (log2_like(value) - best) / 4;
}

}  // namespace

double null_kernel_us(const spec::Candidate& candidate, const spec::Dims& dims) {
  const double floor = floor_us(dims, candidate.dtype);
  const double size = log2_like(static_cast<int64_t>(floor));
  double bowl = 0, before = 0, weight_before = 0;
  for (const auto& [knob, value] : sorted_items(candidate.knobs)) {
    const double weight = 0.1 + 0.9 * fraction_of(candidate.op_name + "/weight/" + knob);
    const double offset = offset_of(candidate, knob, value, size);
    // |cross| <= 0.9 sqrt(w w'), so the quadratic form is positive definite: one basin.
    const double cross = 1.8 * (fraction_of(knob + "/cross") - 0.5);
    bowl += weight * offset * offset + cross * std::sqrt(weight * weight_before) * offset * before;
    before = offset;
    weight_before = weight;
  }
  const double variant = 1 + 0.3 * fraction_of(candidate.op_name + "/" + candidate.variant);
  return floor * variant * (1 + bowl);
}

double null_mlx_us(const spec::Dims& dims, spec::Dtype dtype) {
  return 2.5 * floor_us(dims, dtype);
}

spec::Status null_status(const spec::Candidate& candidate) {
  std::string text = candidate.op_name + "/" + candidate.variant;
  for (const auto& [knob, value] : sorted_items(candidate.knobs))
    text += "/" + knob + "=" + std::to_string(value);
  switch (hash_of(text) % 60) {
    case 0:
      return spec::Status::compile_error;
    case 1:
      return spec::Status::wrong;
    case 2:
      return spec::Status::timeout;
    default:
      return spec::Status::benchmarked;
  }
}

namespace {

class NullDevice final : public Device {
 public:
  NullDevice() {
    id_.kind = id_.arch = id_.name = "null";
    id_.traits.cores = 4;
    id_.traits.vector_bytes = 64;
    id_.traits.isa = {"avx2", "avx512f", "f16c", "fma"};
    id_.traits.l3_bytes = 32 << 20;
    id_.target = {{"isa", id_.traits.isa}, {"cores", id_.traits.cores}};
  }

  const spec::DeviceId& id() const override { return id_; }
  std::vector<std::string> languages() const override { return {"cpp"}; }

  Artifact compile(const spec::Candidate& candidate, double) const override {
    Artifact artifact;
    artifact.ok = null_status(candidate) != spec::Status::compile_error;
    if (!artifact.ok) artifact.error = "the null device refuses this setting";
    return artifact;
  }

  std::shared_ptr<Program> load(const Artifact&, const spec::Candidate&) const override {
    base::fail("devices", "the null device runs nothing: its times come from null_kernel_us");
  }

 private:
  spec::DeviceId id_;
};

}  // namespace

std::shared_ptr<const Device> open_null_device() {
  return std::make_shared<NullDevice>();
}

}  // namespace mlx_kd::devices::null
