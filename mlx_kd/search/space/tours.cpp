#include "mlx_kd/search/space/tours.h"

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

// The rank of each level of a dimension along its order.
std::vector<uint8_t> ranks(const Features& features, size_t dim) {
  std::vector<uint8_t> rank(features.values(dim));
  const std::vector<uint8_t>& levels = features.levels(dim);
  for (size_t i = 0; i < levels.size(); ++i) rank[levels[i]] = static_cast<uint8_t>(i);
  return rank;
}

// Stable, by the digit at `place` of each point's digits.
std::vector<uint32_t> sorted_by_digit(const std::vector<uint32_t>& order,
                                      const std::vector<uint8_t>& digits, size_t width,
                                      size_t place) {
  std::array<uint32_t, 257> begin{};
  for (size_t at = place; at < digits.size(); at += width) ++begin[digits[at] + 1u];
  for (size_t digit = 1; digit < begin.size(); ++digit) begin[digit] += begin[digit - 1];
  std::vector<uint32_t> sorted(order.size());
  for (uint32_t point : order) sorted[begin[digits[point * width + place]]++] = point;
  return sorted;
}

}  // namespace

Tours::Tours(const Features& features, size_t count, uint64_t seed, size_t sort_limit)
    : features_(&features), strides_over_gray_(features.points().size() <= sort_limit) {
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

size_t Tours::long_stop(size_t tour, uint64_t step) {
  const uint64_t position = long_position(tour, step);
  return strides_over_gray_ ? short_stop(tour, position) : position;
}

// Digits of the points along the tour, outermost first: in a reflected order a digit runs backwards
// where the sum of the ranks outside it is odd.
std::vector<uint8_t> Tours::digits_of(const Tour& tour) const {
  std::vector<std::vector<uint8_t>> rank;
  for (size_t dim : tour.nesting) rank.push_back(ranks(*features_, dim));
  std::vector<uint8_t> digits;
  digits.reserve(size() * rank.size());
  for (size_t point = 0; point < size(); ++point) {
    unsigned parity = 0;
    for (size_t i = 0; i < rank.size(); ++i) {
      const uint8_t r = rank[i][features_->level(point, tour.nesting[i])];
      const size_t last = features_->levels(tour.nesting[i]).size() - 1;
      digits.push_back(static_cast<uint8_t>(parity % 2 == 0 ? r : last - r));
      parity += r;
    }
  }
  return digits;
}

const std::vector<uint32_t>& Tours::built(size_t which) {
  Tour& tour = tours_[which];
  if (!tour.order.empty()) return tour.order;
  const size_t width = tour.nesting.size();
  const std::vector<uint8_t> digits = digits_of(tour);
  tour.order.resize(size());
  std::iota(tour.order.begin(), tour.order.end(), uint32_t{0});
  for (size_t place = width; place > 0; --place)
    tour.order = sorted_by_digit(tour.order, digits, width, place - 1);
  return tour.order;
}

}  // namespace mlx_kd::search
