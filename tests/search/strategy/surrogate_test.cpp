#include <gtest/gtest.h>

#include <cmath>

#include "mlx_kd/search/strategy/extra_trees.h"
#include "mlx_kd/search/strategy/gaussian_process.h"
#include "mlx_kd/search/strategy/prior.h"

namespace mlx_kd::search {
namespace {

spec::Space space_of_three() {
  spec::Space space;
  space.knobs = {{"A", {1, 2, 4, 8, 16, 32}, spec::KnobScale::log2},
                 {"B", {0, 1, 2, 3, 4}},
                 {"C", {0, 1, 2}, spec::KnobScale::choice}};
  return space;
}

double truth(const Features& features, size_t point) {
  return std::sin(3 * features.position(0, features.level(point, 0))) +
         features.position(1, features.level(point, 1)) -
         (features.level(point, 2) == 1 ? 0.7 : 0.0);
}

class Surrogates : public ::testing::Test {
 protected:
  Points points_ = Points::enumerate(space_of_three());
  Features features_{points_};
  std::vector<size_t> some(size_t every) const {
    std::vector<size_t> rows;
    for (size_t point = 0; point < points_.size(); point += every) rows.push_back(point);
    return rows;
  }
  std::vector<double> truths(const std::vector<size_t>& rows) const {
    std::vector<double> y;
    for (size_t point : rows) y.push_back(truth(features_, point));
    return y;
  }
};

// The covariance as its header states it, all scales 0.
double stated(const Features& features, const KernelSettings& s, size_t p, size_t q) {
  double additive = 0;
  for (size_t dim = 0; dim < features.dims(); ++dim)
    additive += std::exp(-features.distance(dim, features.level(p, dim), features.level(q, dim)) /
                         s.additive_length) /
                static_cast<double>(features.dims());
  const double r = std::sqrt(features.squared_distance(p, q)) / s.product_length;
  return s.additive * ((1 - s.pairs) * additive + s.pairs * additive * additive) +
         (1 - s.additive) * (1 + r) * std::exp(-r);
}

// Solves A x = b by elimination.
std::vector<double> solved(std::vector<std::vector<double>> a, std::vector<double> b) {
  const size_t n = b.size();
  for (size_t pivot = 0; pivot < n; ++pivot)
    for (size_t row = 0; row < n; ++row) {
      if (row == pivot) continue;
      const double factor = a[row][pivot] / a[pivot][pivot];
      for (size_t column = pivot; column < n; ++column) a[row][column] -= factor * a[pivot][column];
      b[row] -= factor * b[pivot];
    }
  for (size_t i = 0; i < n; ++i) b[i] /= a[i][i];
  return b;
}

double inner(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

TEST_F(Surrogates, ProcessIsTheTextbookPosterior) {
  const KernelSettings settings;
  const std::vector<size_t> rows = some(7);
  const std::vector<double> y = truths(rows);
  GaussianProcess process(features_, settings);
  for (size_t count = 1; count <= rows.size(); ++count)  // grown row by row
    process.set_rows({rows.begin(), rows.begin() + static_cast<long>(count)});
  process.set_targets(y);
  std::vector<std::vector<double>> k(rows.size(), std::vector<double>(rows.size(), 0.0));
  for (size_t a = 0; a < rows.size(); ++a)
    for (size_t b = 0; b < rows.size(); ++b)
      k[a][b] = stated(features_, settings, rows[a], rows[b]) + (a == b ? settings.noise : 0);
  const std::vector<double> weights = solved(k, y);
  for (size_t point = 0; point < points_.size(); ++point) {
    std::vector<double> to;
    for (size_t row : rows) to.push_back(stated(features_, settings, row, point));
    const Prediction prediction = process.predict(point);
    EXPECT_NEAR(prediction.mean, inner(to, weights), 1e-9);
    EXPECT_NEAR(prediction.sd, std::sqrt(1 - inner(to, solved(k, to))), 1e-9);
  }
}

TEST_F(Surrogates, ProcessForgetsRowsThatChange) {
  const std::vector<size_t> rows = some(9), others = some(11);
  GaussianProcess changed(features_, {}), fresh(features_, {});
  changed.set_rows(rows);
  changed.set_targets(truths(rows));
  for (size_t point = 0; point < points_.size(); ++point) changed.predict(point);
  changed.set_rows(others);
  changed.set_targets(truths(others));
  fresh.set_rows(others);
  fresh.set_targets(truths(others));
  for (size_t point = 0; point < points_.size(); ++point) {
    EXPECT_EQ(changed.predict(point).mean, fresh.predict(point).mean);
    EXPECT_EQ(changed.predict(point).sd, fresh.predict(point).sd);
  }
}

TEST_F(Surrogates, ProcessFindsOutWhichKnobMatters) {
  const std::vector<size_t> rows = some(2);
  std::vector<double> y;
  for (size_t point : rows) y.push_back(features_.level(point, 1) % 2 == 0 ? 1 : -1);
  GaussianProcess process(features_, {});
  process.set_rows(rows);
  process.set_targets(y);
  base::Random random(1);
  for (int sweep = 0; sweep < 3; ++sweep) process.fit_scales(random);
  EXPECT_GT(process.scales()[1], process.scales()[0]);
  EXPECT_GT(process.scales()[1], process.scales()[2]);
}

TEST_F(Surrogates, ProcessFollowsHintsThatFit) {
  const std::vector<size_t> rows = some(30);
  GaussianProcess process(features_, {});
  process.set_hints([&](size_t point) { return std::vector<double>{truth(features_, point)}; }, {});
  process.set_rows(rows);
  process.set_targets(truths(rows));
  double error = 0, plain_error = 0;
  GaussianProcess plain(features_, {});
  plain.set_rows(rows);
  plain.set_targets(truths(rows));
  for (size_t point = 0; point < points_.size(); ++point) {
    error += std::abs(process.predict(point).mean - truth(features_, point));
    plain_error += std::abs(plain.predict(point).mean - truth(features_, point));
  }
  EXPECT_LT(error, 0.5 * plain_error);
}

TEST_F(Surrogates, TreesRepeatWhatTheySawAndGuessTheRest) {
  const std::vector<size_t> rows = some(2);
  const ExtraTrees trees(features_, rows, truths(rows), {}, 3);
  for (size_t point : rows) {
    EXPECT_NEAR(trees.predict(point).mean, truth(features_, point), 1e-12);
    EXPECT_NEAR(trees.predict(point).sd, 0, 1e-6);
  }
  double error = 0, spread = 0;
  for (size_t point = 1; point < points_.size(); point += 2) {
    error += std::abs(trees.predict(point).mean - truth(features_, point));
    spread += std::abs(truth(features_, point) - 0.7);
  }
  EXPECT_LT(error, 0.5 * spread);
}

TEST_F(Surrogates, PriorRanksByTheMeanOfItsRuns) {
  std::vector<Observation> a, b;
  for (size_t point = 0; point < points_.size(); ++point) {
    a.push_back({point, point % 10 == 0, truth(features_, point)});
    b.push_back({point, false, 5 + truth(features_, point)});  // another offset means nothing
  }
  Prior prior(features_);
  prior.add(a);
  prior.add(b);
  prior.add({{0, false, 1.0}});                   // too little
  prior.add({{0, false, 1.0}, {1, false, 1.0}});  // nothing told apart
  ASSERT_EQ(prior.runs(), 2u);
  ASSERT_EQ(prior.ranking().size(), points_.size());
  for (size_t i = 1; i < prior.ranking().size(); ++i)
    EXPECT_LE(prior.mean_opinion(prior.ranking()[i - 1]), prior.mean_opinion(prior.ranking()[i]));
  EXPECT_EQ(prior.opinions(10)[0], 0);  // it failed there
  for (double opinion : prior.opinions(7)) EXPECT_LE(opinion, 0);
}

TEST_F(Surrogates, PriorGuessesWhatItsRunsLeftOut) {
  std::vector<Observation> half;
  for (size_t point = 0; point < points_.size(); point += 2)
    half.push_back({point, false, truth(features_, point)});
  Prior prior(features_);
  prior.add(half);
  EXPECT_EQ(prior.ranking().size(), half.size());
  for (size_t point = 1; point < points_.size(); point += 2) {
    EXPECT_LE(prior.mean_opinion(point), 0);
    EXPECT_TRUE(std::isfinite(prior.mean_opinion(point)));
  }
}

}  // namespace
}  // namespace mlx_kd::search
