#include "mlx_kd/discover/row_ranges.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

namespace mlx_kd::discover {
namespace {

using Claims = std::vector<evaluate::Claim>;
using Winners = std::vector<const evaluate::Claim*>;

struct Point {
  int64_t rows;
  size_t size;  // index
};
using Points = std::vector<Point>;

// The sizes inside the range, by their other dims, in the order of rows.
std::map<std::string, Points> groups_of(const spec::Op& op, const shapes::RowRange& range,
                                        const std::vector<spec::Dims>& sizes) {
  std::map<std::string, Points> result;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const int64_t rows = sizes[i].at(op.batch_dim);
    if (range.holds(rows)) result[shapes::rest_of(op, sizes[i])].push_back({rows, i});
  }
  for (auto& [rest, points] : result)
    std::sort(points.begin(), points.end(),
              [](const Point& a, const Point& b) { return a.rows < b.rows; });
  return result;
}

// Benchmarked candidates, the best on average over the points first, ties by id.
std::vector<const archive::Record*> best_over(const std::vector<archive::Record>& records,
                                              const Points& points) {
  std::vector<std::tuple<double, std::string, const archive::Record*>> ranked;
  for (const auto& record : records) {
    if (record.verdict.status != spec::Status::benchmarked) continue;
    double sum = 0;
    for (const Point& point : points) sum += record.verdict.sizes[point.size].metrics.log_ratio;
    ranked.emplace_back(sum, record.candidate_id, &record);
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<const archive::Record*> result;
  for (const auto& item : ranked) result.push_back(std::get<2>(item));
  return result;
}

// What a kernel was claimed at: one place a point, nullptr where it was not.
using Row = std::vector<const evaluate::Claim*>;

std::map<std::string, Row> rows_of(const Claims& claims, const std::vector<spec::Dims>& sizes,
                                   const Points& points) {
  std::map<std::string, Row> result;
  for (const auto& claim : claims)
    for (size_t i = 0; i < points.size(); ++i)
      if (claim.claimed && claim.dims == sizes[points[i].size]) {
        Row& row = result[claim.candidate_id];
        row.resize(points.size());
        row[i] = &claim;
      }
  return result;
}

struct Stretch {
  const Row* row = nullptr;
  size_t first = 0, last = 0;  // points [first, last)
  double gain = 0;             // sum of the logs of its speed-ups
  bool better_than(const Stretch& other) const {
    return std::make_tuple(last - first, gain) >
           std::make_tuple(other.last - other.first, other.gain);
  }
};

// The longest stretch of one kernel within [first, last).
Stretch longest(const std::map<std::string, Row>& rows, size_t first, size_t last) {
  Stretch best;
  for (const auto& [id, row] : rows) {
    Stretch now{&row, first, first, 0};
    for (size_t i = first; i < last; ++i) {
      now = row[i] ? Stretch{&row, now.first, i + 1,
                             now.gain + std::log(row[i]->metrics.speedup_vs_ref)}
                   : Stretch{&row, i + 1, i + 1, 0};
      if (now.better_than(best)) best = now;
    }
  }
  return best;
}

// How much slower the kernel is than the winner of the point.
double loss_at(const evaluate::Claim* claim, const evaluate::Claim* winner) {
  return claim == winner ? -1 : claim->metrics.kernel_us / winner->metrics.kernel_us;
}

RangeClaim range_claim(const Stretch& stretch, const Points& points, const Winners& winners) {
  const auto loss = [&](size_t i) { return loss_at((*stretch.row)[i], winners[points[i].size]); };
  size_t place = stretch.first;
  RangeClaim result{0, nullptr, {points[stretch.first].rows, points[stretch.last - 1].rows, {}}};
  for (size_t i = stretch.first; i < stretch.last; ++i) {
    result.rows.sampled.push_back(points[i].rows);
    if (loss(i) < loss(place)) place = i;
  }
  result.size = points[place].size;
  result.claim = (*stretch.row)[place];
  return result;
}

void cover(const std::map<std::string, Row>& rows, const Points& points, const Winners& winners,
           size_t first, size_t last, std::vector<RangeClaim>& result) {
  const Stretch best = longest(rows, first, last);
  if (best.last - best.first < 2) return;
  cover(rows, points, winners, first, best.first, result);
  result.push_back(range_claim(best, points, winners));
  cover(rows, points, winners, best.last, last, result);
}

}  // namespace

void add_range_finalists(const spec::Op& op, const shapes::RowRange& range,
                         const std::vector<archive::Record>& records,
                         const std::vector<spec::Dims>& sizes, size_t count,
                         std::vector<std::vector<spec::Candidate>>& finalists) {
  for (const auto& [rest, points] : groups_of(op, range, sizes)) {
    const auto ranked = best_over(records, points);
    for (const Point& point : points)
      for (size_t i = 0; i < std::min(count, ranked.size()); ++i) {
        auto& of_size = finalists[point.size];
        const bool is_there = std::any_of(of_size.begin(), of_size.end(), [&](const auto& known) {
          return known.id() == ranked[i]->candidate_id;
        });
        if (!is_there) of_size.push_back(ranked[i]->candidate);
      }
  }
}

std::vector<RangeClaim> choose_ranges(const spec::Op& op, const shapes::RowRange& range,
                                      const Claims& claims, const std::vector<spec::Dims>& sizes,
                                      const Winners& winners) {
  std::vector<RangeClaim> result;
  for (const auto& [rest, points] : groups_of(op, range, sizes))
    cover(rows_of(claims, sizes, points), points, winners, 0, points.size(), result);
  return result;
}

}  // namespace mlx_kd::discover
