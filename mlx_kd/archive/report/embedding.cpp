#include "mlx_kd/archive/report/embedding.h"

#include <algorithm>
#include <cmath>

namespace mlx_kd::archive {
namespace {

using Matrix = std::vector<std::vector<double>>;

constexpr int kIterations = 200;

Matrix centred(const std::vector<std::vector<double>>& rows) {
  size_t width = 0;
  for (const auto& row : rows) width = std::max(width, row.size());
  Matrix result = rows;
  for (auto& row : result) row.resize(width, 0);
  for (size_t j = 0; j < width; ++j) {
    double mean = 0;
    for (const auto& row : result) mean += row[j] / static_cast<double>(rows.size());
    for (auto& row : result) row[j] -= mean;
  }
  return result;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// The leading direction of the rows by power iteration on X^T X; zero if they do not differ.
std::vector<double> leading_direction(const Matrix& rows) {
  std::vector<double> direction(rows[0].size());
  for (size_t j = 0; j < direction.size(); ++j) direction[j] = 1 + 0.1 * static_cast<double>(j % 7);
  for (int i = 0; i < kIterations; ++i) {
    std::vector<double> next(direction.size(), 0);
    for (const auto& row : rows) {
      const double along = dot(row, direction);
      for (size_t j = 0; j < next.size(); ++j) next[j] += along * row[j];
    }
    const double length = std::sqrt(dot(next, next));
    if (length < 1e-12) return std::vector<double>(direction.size(), 0);
    for (size_t j = 0; j < next.size(); ++j) direction[j] = next[j] / length;
  }
  return direction;
}

}  // namespace

std::vector<std::array<double, 2>> embed_2d(const std::vector<std::vector<double>>& rows) {
  std::vector<std::array<double, 2>> result(rows.size(), {0, 0});
  if (rows.size() < 3) return {};
  Matrix left = centred(rows);
  if (left[0].empty()) return {};
  for (size_t axis : {0, 1}) {
    const std::vector<double> direction = leading_direction(left);
    if (axis == 0 && dot(direction, direction) == 0) return {};
    for (size_t i = 0; i < left.size(); ++i) {
      const double along = result[i][axis] = dot(left[i], direction);
      for (size_t j = 0; j < direction.size(); ++j) left[i][j] -= along * direction[j];
    }
  }
  return result;
}

}  // namespace mlx_kd::archive
