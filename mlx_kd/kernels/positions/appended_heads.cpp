#include "mlx_kd/kernels/positions/appended_heads.h"

#include <algorithm>

namespace mlx_kd::kernels {
namespace {

int64_t elements_of(const spec::Dims& dims, const char* heads, const char* width) {
  return dims.at("B") * dims.at(heads) * dims.at("M") * dims.at(width);
}

}  // namespace

std::vector<spec::Port> new_head_ports() {
  return {{.name = "q", .shape = shape_of({"B", "Hq", "M", "D"}), .strided = true},
          {.name = "k", .shape = shape_of({"B", "Hk", "M", "D"}), .strided = true},
          {.name = "v", .shape = shape_of({"B", "Hk", "M", "Dv"}), .strided = true}};
}

void fill_new_heads(const spec::FillRequest& request, size_t first, bool plain_keys) {
  spec::FillRequest plain = request;
  plain.distribution = spec::Distribution::normal;
  const auto fill = [&](const spec::FillRequest& by, size_t port, const char* heads,
                        const char* width) {
    fill_rows(by, request.inputs[port], elements_of(request.dims, heads, width),
              static_cast<int64_t>(port));
  };
  fill(request, first, "Hq", "D");
  fill(plain_keys ? plain : request, first + 1, "Hk", "D");
  fill(plain, first + 2, "Hk", "Dv");
}

void put_elements(const spec::Reference64& from, int64_t at, int64_t count, spec::Reference64& to,
                  int64_t place) {
  const auto copy = [&](const std::vector<double>& some, std::vector<double>& all) {
    std::copy_n(some.begin() + at, count, all.begin() + place);
  };
  copy(from.y, to.y);
  copy(from.rounded, to.rounded);
  copy(from.terms, to.terms);
  copy(from.absolute, to.absolute);
}

spec::Cost cost_of_append(const spec::Dims& dims, spec::Dtype dtype) {
  const int64_t weights = (dims.at("has_wq") + dims.at("has_wk")) * dims.at("D");
  const int64_t turned = elements_of(dims, "Hq", "D") + elements_of(dims, "Hk", "D");
  spec::Cost cost = rotary_cost(dims, turned, weights, dtype);
  cost.bytes += static_cast<double>(2 * elements_of(dims, "Hk", "Dv") * spec::size_of(dtype));
  return cost;
}

}  // namespace mlx_kd::kernels
