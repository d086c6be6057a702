#include "mlx_kd/kernels/attention/attention_paged/judge.h"

#include <cmath>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/reference64.h"

namespace mlx_kd::kernels::attention_paged {
namespace {

using spec::Dims;
using spec::Distribution;
using spec::Dtype;

int64_t rows_of_pages(const Dims& dims) {
  return dims.at("P") * dims.at("Hk") * dims.at("L");
}

attention::SizedNumbers numbers_of(const void* pages, int64_t count, Dtype t) {
  attention::SizedNumbers numbers = {load_all(pages, count, t), {}};
  for (const double value : numbers.value) numbers.size.push_back(std::fabs(value));
  return numbers;
}

}  // namespace

// Products of one size; in special cases pages that are not there, rows without a key, a NaN.
void fill(const spec::FillRequest& request) {
  const Dims& dims = request.dims;
  base::Random random(request.seed * 1013 + static_cast<uint64_t>(request.distribution));
  const bool wide = request.distribution == Distribution::magnitudes;
  const double most = request.t == Dtype::float16 ? 5 : 30;
  const double size = wide ? std::exp2(std::round((2 * random.uniform() - 1) * most)) : 1;
  const auto put = [&](PortIndex port, int64_t count, double by) {
    for (int64_t i = 0; i < count; ++i)
      spec::store_element(request.inputs[port], i, request.t,
                          static_cast<float>(by * random.normal()));
  };
  put(kQ, dims.at("B") * dims.at("Hq") * dims.at("M") * dims.at("Dk"), 1 / size);
  put(kKeyPages, rows_of_pages(dims) * dims.at("Dk"), size);
  put(kValuePages, rows_of_pages(dims) * dims.at("Dv"), size);
  if (request.distribution == Distribution::special)
    spec::store_element(request.inputs[kQ], 0, request.t, std::nanf(""));
  attention::fill_places(request, kPlaces, random);
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  const int64_t rows = rows_of_pages(dims);
  return {
      attention::attend_in_float64(inputs, kPlaces, dtype, dims, scalars[0],
                                   numbers_of(inputs[kKeyPages], rows * dims.at("Dk"), dtype),
                                   numbers_of(inputs[kValuePages], rows * dims.at("Dv"), dtype))};
}

spec::ErrorBound bound(const Dims& dims) {
  return {attention::paged_roundings(dims).of_sum,
          "As attention over W L keys, with A = |scale| sum |q k| + the largest score."};
}

}  // namespace mlx_kd::kernels::attention_paged
