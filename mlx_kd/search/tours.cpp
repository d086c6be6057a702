#include "mlx_kd/search/tours.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "mlx_kd/base/random.h"

namespace mlx_kd::search {
namespace {

// Shares of a lap that are far from fractions with small denominators: powers of the golden ratio's
// and the plastic number's inverse.
constexpr std::array<double, 4> kShares = {0.6180339887, 0.7548776662, 0.5698402910, 0.8191725134};

uint64_t coprime_from(uint64_t first, uint64_t size) {
  uint64_t stride = std::max<uint64_t>(1, first);
  while (std::gcd(stride, size) != 1) ++stride;
  return stride;
}

std::vector<size_t> shuffled(size_t count, base::Random& random) {
  std::vector<size_t> items(count);
  std::iota(items.begin(), items.end(), size_t{0});
  for (size_t i = count; i > 1; --i) std::swap(items[i - 1], items[random.below(i)]);
  return items;
}

struct Stop {
  std::array<uint8_t, 16> key;
  uint32_t point;
  bool operator<(const Stop& other) const { return key < other.key; }
};

// The rank of each level of a dimension along its order.
std::vector<uint8_t> ranks(const Features& features, size_t dim) {
  std::vector<uint8_t> rank(features.values(dim));
  const std::vector<uint8_t>& levels = features.levels(dim);
  for (size_t i = 0; i < levels.size(); ++i) rank[levels[i]] = static_cast<uint8_t>(i);
  return rank;
}

}  // namespace

Tours::Tours(const Features& features, size_t count, uint64_t seed) : features_(&features) {
  base::Random random(seed);
  for (size_t i = 0; i < count; ++i) {
    const double share = kShares[i % kShares.size()];
    Tour tour{shuffled(features.dims(), random), random.below(size()), 1, {}};
    tour.stride = coprime_from(static_cast<uint64_t>(share * static_cast<double>(size())), size());
    tours_.push_back(std::move(tour));
  }
}

uint64_t Tours::long_position(size_t tour, uint64_t step) const {
  const Tour& t = tours_[tour];  // both factors below 2^32: no overflow
  return (t.start + (step % size()) * (t.stride % size())) % size();
}

const std::vector<uint32_t>& Tours::built(size_t which) {
  Tour& tour = tours_[which];
  if (!tour.order.empty()) return tour.order;
  std::vector<std::vector<uint8_t>> rank;
  for (size_t dim : tour.nesting) rank.push_back(ranks(*features_, dim));
  std::vector<Stop> stops(size());
  for (size_t point = 0; point < size(); ++point) {
    Stop& stop = stops[point];
    stop = {{}, static_cast<uint32_t>(point)};
    unsigned parity = 0;
    for (size_t i = 0; i < tour.nesting.size(); ++i) {
      const uint8_t r = rank[i][features_->level(point, tour.nesting[i])];
      const size_t last = features_->levels(tour.nesting[i]).size() - 1;
      stop.key[i] = static_cast<uint8_t>(parity % 2 == 0 ? r : last - r);
      parity += r;
    }
  }
  std::sort(stops.begin(), stops.end());
  for (const Stop& stop : stops) tour.order.push_back(stop.point);
  return tour.order;
}

}  // namespace mlx_kd::search
