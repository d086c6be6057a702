#include "mlx_kd/evaluate/proof/inputs.h"

#include <cmath>
#include <numbers>

#include "mlx_kd/base/random.h"

namespace mlx_kd::evaluate {
namespace {

void fill_normal(void* data, int64_t count, spec::Dtype dtype, base::Random& random) {
  for (int64_t i = 0; i < count; i += 2) {
    const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
    const double angle = 2 * std::numbers::pi * random.uniform();
    spec::store_number(data, i, dtype, radius * std::cos(angle));
    if (i + 1 < count) spec::store_number(data, i + 1, dtype, radius * std::sin(angle));
  }
}

struct Exponents {
  double lo, hi;
};

// Powers of two whose squares, products and sums over any row stay finite. By seed: all of the
// range, its large end, its tiny end.
Exponents exponents_of(spec::Dtype dtype, size_t seed_index) {
  const Exponents all = dtype == spec::Dtype::float16 ? Exponents{-12, 4} : Exponents{-30, 20};
  const double eighth = (all.hi - all.lo) / 8;
  if (seed_index % 3 == 1) return {all.hi - eighth, all.hi};
  if (seed_index % 3 == 2) return {all.lo, all.lo + eighth};
  return all;
}

void fill_magnitudes(void* data, int64_t count, spec::Dtype dtype, Exponents range,
                     base::Random& random) {
  for (int64_t i = 0; i < count; ++i) {
    const double size = std::exp2(range.lo + (range.hi - range.lo) * random.uniform());
    spec::store_number(data, i, dtype, random.next() >> 63 ? -size : size);
  }
}

void fill_by_distribution(const spec::Op& op, spec::Dtype t, const Case& c,
                          const std::vector<void*>& inputs) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    base::Random random(c.seed * 1000003 + i * 101 + static_cast<uint64_t>(c.distribution));
    const int64_t count = c.input_arrays[i].elements();
    const spec::Dtype type = c.input_arrays[i].type;
    if (c.distribution == spec::Distribution::magnitudes)
      fill_magnitudes(inputs[i], count, type, exponents_of(type, c.seed_index), random);
    else
      fill_normal(inputs[i], count, type, random);
  }
  if (c.distribution == spec::Distribution::special && op.add_special_values)
    op.add_special_values(inputs, t, c.dims);
}

}  // namespace

void fill_inputs(const spec::Op& op, spec::Dtype t, const Case& c,
                 const std::vector<void*>& inputs) {
  if (op.fill)
    op.fill({inputs, t, c.dims, c.scalars, c.distribution, c.seed});
  else
    fill_by_distribution(op, t, c, inputs);
}

}  // namespace mlx_kd::evaluate
