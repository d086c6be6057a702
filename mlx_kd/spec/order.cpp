#include "mlx_kd/spec/order.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace mlx_kd::spec {
namespace {

double or_last(double time_us) {
  return std::isfinite(time_us) ? time_us : std::numeric_limits<double>::infinity();
}

bool before(const Metrics& a, const std::string& id_a, const Metrics& b, const std::string& id_b,
            bool by_kernel) {
  const double kernel_a = by_kernel ? a.kernel_us : 0;
  const double kernel_b = by_kernel ? b.kernel_us : 0;
  return std::make_tuple(kernel_a, or_last(a.latency_us), std::cref(id_a)) <
         std::make_tuple(kernel_b, or_last(b.latency_us), std::cref(id_b));
}

}  // namespace

bool ranks_before(const Metrics& a, const std::string& id_a, const Metrics& b,
                  const std::string& id_b) {
  return before(a, id_a, b, id_b, std::isfinite(a.kernel_us) && std::isfinite(b.kernel_us));
}

std::vector<size_t> rank(const std::vector<Ranked>& candidates) {
  const bool by_kernel = std::all_of(candidates.begin(), candidates.end(), [](const Ranked& c) {
    return std::isfinite(c.metrics->kernel_us);
  });
  std::vector<size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) {
    return before(*candidates[i].metrics, candidates[i].id, *candidates[j].metrics,
                  candidates[j].id, by_kernel);
  });
  return order;
}

}  // namespace mlx_kd::spec
