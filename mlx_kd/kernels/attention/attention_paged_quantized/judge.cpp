#include "mlx_kd/kernels/attention/attention_paged_quantized/judge.h"

#include <cmath>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/attention/coded_keys.h"

namespace mlx_kd::kernels::attention_paged_quantized {
namespace {

using spec::Dims;
using spec::Distribution;
using spec::Dtype;

int64_t elements_of_pages(const Dims& dims, PortIndex codes) {
  return dims.at("P") * dims.at("Hk") * dims.at("L") * dims.at(codes == kKeyCodes ? "Dk" : "Dv");
}

}  // namespace

// As attention over codes; in special cases pages that are not there, rows without a key, a NaN.
void fill(const spec::FillRequest& request) {
  const Dims& dims = request.dims;
  base::Random random(request.seed * 1019 + static_cast<uint64_t>(request.distribution));
  const bool wide = request.distribution == Distribution::magnitudes;
  const double most = request.t == Dtype::float16 ? 5 : 30;
  const double size = wide ? std::exp2(std::round((2 * random.uniform() - 1) * most)) : 1;
  const int64_t queries = dims.at("B") * dims.at("Hq") * dims.at("M") * dims.at("Dk");
  for (int64_t i = 0; i < queries; ++i)
    spec::store_element(request.inputs[kQ], i, request.t,
                        static_cast<float>(random.normal() / size));
  for (const PortIndex codes : {kKeyCodes, kValueCodes})
    attention::fill_codes(request, codes, elements_of_pages(dims, codes), size, random);
  if (request.distribution == Distribution::special)
    spec::store_element(request.inputs[kQ], 0, request.t, std::nanf(""));
  attention::fill_places(request, kPlaces, random);
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  const auto numbers = [&](PortIndex codes) {
    return attention::numbers_of_codes(inputs, codes, dtype, dims, elements_of_pages(dims, codes));
  };
  return {attention::attend_in_float64(inputs, kPlaces, dtype, dims, scalars[0], numbers(kKeyCodes),
                                       numbers(kValueCodes))};
}

spec::ErrorBound bound(const Dims& dims) {
  return {attention::paged_roundings(dims).of_sum,
          "As attention over codes, over W L keys: A = |scale| sum |q| (|scale code| + |bias|) + "
          "the largest score, and |v| = |scale code| + |bias|."};
}

}  // namespace mlx_kd::kernels::attention_paged_quantized
