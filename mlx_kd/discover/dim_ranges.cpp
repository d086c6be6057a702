// The sizes inside the ranges that share their other dims are the points of a grid, one axis per
// range. What one kernel may serve is a box of the grid. The largest box is found by trying all of
// them (grids are small), and what is left around it is cut into boxes of its own: along the first
// axis the parts below and above, within its span along the second, and so on.
#include "mlx_kd/discover/dim_ranges.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <set>
#include <tuple>

namespace mlx_kd::discover {
namespace {

using Claims = std::vector<evaluate::Claim>;
using Winners = std::vector<const evaluate::Claim*>;

// Along each axis the points [first, last).
struct Span {
  size_t first = 0, last = 0;
};
using Box = std::vector<Span>;

size_t volume_of(const Box& box) {
  size_t volume = 1;
  for (const Span& span : box) volume *= span.last - span.first;
  return volume;
}

struct Grid {
  std::vector<std::vector<int64_t>> axes;     // values in rising order
  std::vector<std::optional<size_t>> points;  // index of the size of each point, last axis fastest

  size_t place(const std::vector<size_t>& at) const {
    size_t result = 0;
    for (size_t i = 0; i < axes.size(); ++i) result = result * axes[i].size() + at[i];
    return result;
  }
  Box whole() const {
    Box box;
    for (const auto& axis : axes) box.push_back({0, axis.size()});
    return box;
  }
};

// Every point of the box, in the order of the grid, until `visit` returns false.
bool each_point(const Grid& grid, const Box& box, const std::function<bool(size_t place)>& visit) {
  std::vector<size_t> at;
  for (const Span& span : box) at.push_back(span.first);
  for (size_t left = volume_of(box); left > 0; --left) {
    if (!visit(grid.place(at))) return false;
    for (size_t i = at.size(); i-- > 0; at[i] = box[i].first)
      if (++at[i] < box[i].last) break;
  }
  return true;
}

Grid grid_of(const shapes::DimRanges& ranges, const std::vector<spec::Dims>& sizes,
             const std::vector<size_t>& indices) {
  Grid grid;
  for (const auto& range : ranges) {
    std::set<int64_t> values;
    for (const size_t size : indices) values.insert(sizes[size].at(range.dim));
    grid.axes.emplace_back(values.begin(), values.end());
  }
  grid.points.resize(volume_of(grid.whole()));
  for (const size_t size : indices) {
    std::vector<size_t> at;
    for (size_t i = 0; i < ranges.size(); ++i) {
      const auto& axis = grid.axes[i];
      const auto value = std::lower_bound(axis.begin(), axis.end(), sizes[size].at(ranges[i].dim));
      at.push_back(static_cast<size_t>(value - axis.begin()));
    }
    grid.points[grid.place(at)] = size;
  }
  return grid;
}

// By the dims that have no range.
std::map<std::string, Grid> grids_of(const spec::Op& op, const shapes::DimRanges& ranges,
                                     const std::vector<spec::Dims>& sizes) {
  std::map<std::string, std::vector<size_t>> groups;
  for (size_t i = 0; i < sizes.size(); ++i)
    if (shapes::holds(ranges, sizes[i])) groups[shapes::rest_of(op, ranges, sizes[i])].push_back(i);
  std::map<std::string, Grid> result;
  for (const auto& [rest, indices] : groups) result[rest] = grid_of(ranges, sizes, indices);
  return result;
}

// Benchmarked candidates, the best on average over the points first, ties by id.
std::vector<const archive::Record*> best_over(const std::vector<archive::Record>& records,
                                              const Grid& grid) {
  std::vector<std::tuple<double, std::string, const archive::Record*>> ranked;
  for (const auto& record : records) {
    if (record.verdict.status != spec::Status::benchmarked) continue;
    double sum = 0;
    for (const auto& size : grid.points)
      if (size) sum += record.verdict.sizes[*size].metrics.log_ratio;
    ranked.emplace_back(sum, record.candidate_id, &record);
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<const archive::Record*> result;
  for (const auto& item : ranked) result.push_back(std::get<2>(item));
  return result;
}

// What a kernel was claimed at: one place per point, nullptr where it was not.
using Row = std::vector<const evaluate::Claim*>;

std::map<std::string, Row> rows_of(const Claims& claims, const std::vector<spec::Dims>& sizes,
                                   const Grid& grid) {
  std::map<std::string, Row> result;
  for (const auto& claim : claims)
    for (size_t i = 0; i < grid.points.size(); ++i)
      if (claim.claimed && grid.points[i] && claim.dims == sizes[*grid.points[i]]) {
        Row& row = result[claim.candidate_id];
        row.resize(grid.points.size());
        row[i] = &claim;
      }
  return result;
}

// Sum of the logs of the kernel's speed-ups in the box, nullopt where it is not claimed throughout.
// Where MLX cannot do it there is no speed-up, and nothing to prefer by.
std::optional<double> gain_of(const Row& row, const Grid& grid, const Box& box) {
  double gain = 0;
  const bool is_claimed = each_point(grid, box, [&](size_t place) {
    if (!row[place]) return false;
    const double speedup = row[place]->metrics.speedup_vs_ref;
    if (std::isfinite(speedup) && speedup > 0) gain += std::log(speedup);
    return true;
  });
  return is_claimed ? std::optional(gain) : std::nullopt;
}

// Every box within `region`, larger ones of the first axes last.
void each_box(const Box& region, const std::function<void(const Box&)>& visit, Box box = {}) {
  if (box.size() == region.size()) return visit(box);
  const Span& span = region[box.size()];
  for (size_t first = span.first; first < span.last; ++first)
    for (size_t last = first + 1; last <= span.last; ++last) {
      box.push_back({first, last});
      each_box(region, visit, box);
      box.pop_back();
    }
}

struct Largest {
  const Row* row = nullptr;
  Box box;
  size_t volume = 0;
  double gain = 0;
};

// The largest box of one kernel within the region; of equal ones that with the most gain.
Largest largest_in(const std::map<std::string, Row>& rows, const Grid& grid, const Box& region) {
  Largest best;
  for (const auto& [id, row] : rows)
    each_box(region, [&, &row = row](const Box& box) {
      const size_t volume = volume_of(box);
      if (volume < best.volume) return;
      const auto gain = gain_of(row, grid, box);
      if (gain && std::make_tuple(volume, *gain) > std::make_tuple(best.volume, best.gain))
        best = {&row, box, volume, *gain};
    });
  return best;
}

class Chooser {
 public:
  Chooser(const shapes::DimRanges& ranges, const Grid& grid, std::map<std::string, Row> rows,
          const Winners& winners, const std::set<size_t>& taken)
      : ranges_(ranges), grid_(grid), rows_(std::move(rows)), winners_(winners), taken_(taken) {}

  void cover(const Box& region, std::vector<RangeClaim>& result) const {
    if (volume_of(region) < 2) return;
    const Largest best = largest_in(rows_, grid_, region);
    if (best.volume < 2) return;
    std::vector<Box> above;
    Box rest = region;
    for (size_t i = 0; i < region.size(); ++i) {
      Box below = rest, beyond = rest;
      below[i].last = best.box[i].first;
      beyond[i].first = best.box[i].last;
      cover(below, result);
      above.push_back(beyond);
      rest[i] = best.box[i];
    }
    if (const auto claim = claim_of(best)) result.push_back(*claim);
    for (size_t i = above.size(); i-- > 0;) cover(above[i], result);
  }

 private:
  std::optional<RangeClaim> claim_of(const Largest& best) const {
    std::optional<size_t> nearest;  // place
    double least = 0;
    each_point(grid_, best.box, [&](size_t place) {
      const size_t size = *grid_.points[place];
      if (taken_.count(size)) return true;
      // How much slower the kernel is than the winner of the point.
      const evaluate::Claim *claim = (*best.row)[place], *winner = winners_[size];
      const double loss =
          claim == winner ? -1 : claim->metrics.kernel_us / winner->metrics.kernel_us;
      if (nearest && !(loss < least)) return true;
      nearest = place;
      least = loss;
      return true;
    });
    if (!nearest) return std::nullopt;
    return RangeClaim{*grid_.points[*nearest], (*best.row)[*nearest], ranges_in(best.box)};
  }

  std::map<std::string, packs::DimRange> ranges_in(const Box& box) const {
    std::map<std::string, packs::DimRange> result;
    for (size_t i = 0; i < box.size(); ++i) {
      const auto first = grid_.axes[i].begin();
      const std::vector<int64_t> sampled(first + static_cast<std::ptrdiff_t>(box[i].first),
                                         first + static_cast<std::ptrdiff_t>(box[i].last));
      if (sampled.size() > 1) result[ranges_[i].dim] = {sampled.front(), sampled.back(), sampled};
    }
    return result;
  }

  const shapes::DimRanges& ranges_;
  const Grid& grid_;
  std::map<std::string, Row> rows_;
  const Winners& winners_;
  const std::set<size_t>& taken_;
};

}  // namespace

void add_range_finalists(const spec::Op& op, const shapes::DimRanges& ranges,
                         const std::vector<archive::Record>& records,
                         const std::vector<spec::Dims>& sizes, size_t count,
                         std::vector<std::vector<spec::Candidate>>& finalists) {
  for (const auto& [rest, grid] : grids_of(op, ranges, sizes)) {
    const auto ranked = best_over(records, grid);
    for (const auto& size : grid.points)
      for (size_t i = 0; size && i < std::min(count, ranked.size()); ++i) {
        auto& of_size = finalists[*size];
        const bool is_there = std::any_of(of_size.begin(), of_size.end(), [&](const auto& known) {
          return known.id() == ranked[i]->candidate_id;
        });
        if (!is_there) of_size.push_back(ranked[i]->candidate);
      }
  }
}

std::vector<RangeClaim> choose_ranges(const spec::Op& op, const shapes::DimRanges& ranges,
                                      const Claims& claims, const std::vector<spec::Dims>& sizes,
                                      const Winners& winners, const std::set<size_t>& taken) {
  std::vector<RangeClaim> result;
  for (const auto& [rest, grid] : grids_of(op, ranges, sizes))
    Chooser(ranges, grid, rows_of(claims, sizes, grid), winners, taken).cover(grid.whole(), result);
  return result;
}

}  // namespace mlx_kd::discover
