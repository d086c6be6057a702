// The default strategy: a surrogate ranks the graph neighbours of the best points and far stops of
// Hamiltonian tours; docs/search.md says why each part is there.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "mlx_kd/search/space/neighbors.h"
#include "mlx_kd/search/space/tours.h"
#include "mlx_kd/search/strategy/extra_trees.h"
#include "mlx_kd/search/strategy/gain_outlook.h"
#include "mlx_kd/search/strategy/gaussian_process.h"
#include "mlx_kd/search/strategy/history.h"
#include "mlx_kd/search/strategy/prior.h"

namespace mlx_kd::search {

// One setting for all spaces.
struct TourSettings {
  size_t knn = 12;
  size_t tours = 4;
  size_t sort_limit = 1 << 15;     // see Tours
  size_t initial = 2;              // points spread over the space before the surrogate is asked
  size_t centre = 8;               // the first is a random one of these nearest to the middle,
  double centre_slack = 1e-9;      // of those that are farther than the nearest by no more, squared
  double centre_alignment = 1;     // the middle of an alignment
  double alignment_weight = 0.25;  // of an alignment beside a knob, where the first is sought
  size_t centre_search = 1 << 15;  // points among which they are sought; all, of a smaller space
  size_t spread = 64;       // long-tour stops that the farthest of is taken from, while spreading
  size_t elite = 8;         // best points whose graph moves are candidates
  size_t moves = SIZE_MAX;  // of each, nearest first
  size_t stops = 32;        // far stops among the candidates of a step
  size_t gap = 0;           // see StrategyOptions::min_tour_gap
  double exploit = 0, novelty = 0.02;
  double cap = 0.5;  // values above this quantile of the valid ones, and failures, count as it
  // A point whose squared distance from the middle is twice the mean is expected to be worse than
  // the mean by so many standard deviations, one at the middle better by as many.
  double centre_trust = 1;
  double margin = 0.01;        // improvement asked for, in standard deviations of the values
  bool doubted_best = false;   // what is to be improved on is the best of what the process believes
                               // of the best points, not the best value, which may be luck
  size_t process_limit = 200;  // observations up to which the Gaussian process is asked
  size_t first_scales = 6;     // observations at which its scales are first fitted,
  double scales_growth = 1.2;  // and by which factor they grow until the next time
  double trees_growth = 1.05;  // the same for the trees
  double confidence = 2;       // the trees rank by mean - confidence sd
  size_t doubt = 3;            // with a prior, every so many steps ignore it
  size_t prior_stops = 32;     // best points of the prior among the candidates, where there is one
  KernelSettings kernel;
  HintSettings hints;
  TreeSettings trees;
};

class TourSearch : public Strategy {
 public:
  TourSearch(const Points& points, const TourSettings& settings, uint64_t seed);
  std::vector<size_t> propose(size_t count) override;
  void observe(const Observation& observation) override;
  void observe_all(const std::vector<Observation>& observations) override;
  void take_share(size_t rank, size_t ranks) override;
  void add_prior(const std::vector<Observation>& run) override;
  std::optional<double> expected_gain() const override { return expected_gain_; }
  Tours* tours() override { return &tours_; }

 private:
  struct Choice {
    size_t point;
    double belief;  // value expected of it
    double sd = 0;  // of that; 0 where no model was asked
  };
  // What is believed while little is known.
  struct Model {
    GaussianProcess process;
    bool warm;                // starts from the prior, whose median is its cap
    double mean = 0, sd = 1;  // what the process standardises by
  };
  void take(const Observation& observation);
  void learn();
  Choice choose();
  double off_centre(size_t point, double alignment_weight) const;  // squared
  double mean_off_centre();
  // Of the points among which the middle is sought, with their numbers.
  std::vector<std::pair<double, size_t>> off_centre_of_many(double alignment_weight);
  size_t centre_point();
  size_t spread_point();
  Choice prior_choice();
  std::vector<size_t> best_of_prior();
  size_t coverage_stop(size_t tour);
  bool clear_of_taken(size_t tour, uint64_t step);
  std::vector<size_t> moves_of_best();
  std::vector<size_t> far_stops(size_t own);
  std::vector<size_t> candidates(bool moves_only);
  double value_to_beat(Model& model);  // standardised
  Choice best_by_process(const std::vector<size_t>& candidates);
  Choice best_by_trees(const std::vector<size_t>& candidates);
  double expected(const Model& model, size_t point);  // before anything is seen; standardised
  void set_level();
  void load(Model& model, bool with_pending);
  void fit_scales();
  Model& model_of(size_t step);
  const ExtraTrees& trees();
  void look_ahead(const std::vector<Prediction>& beliefs);  // of the candidates

  TourSettings settings_;
  uint64_t seed_;
  Features features_;
  Graph graph_;
  Tours tours_;
  History history_;
  Prior prior_;
  std::map<size_t, Choice> beliefs_;  // of pending points
  GainOutlook outlook_;
  size_t ranks_ = 1;               // that share the points
  std::vector<uint64_t> covered_;  // stops of each long tour that are all taken
  Model cold_, warm_;
  double cap_ = kFailed;  // what failures and the worse half of what was seen count as
  double level_ = 0;      // with a prior: of values less what it expects
  std::optional<double> mean_off_centre_;
  size_t next_scales_, next_trees_ = 0;
  std::optional<ExtraTrees> trees_;
  // Trees are grown when they are first asked: on so many observations, with that cap.
  size_t due_rows_ = 0;
  double due_cap_ = kFailed;
  std::map<size_t, ExtraTrees::Spread> tree_beliefs_;  // of the trees as they are
  std::optional<double> expected_gain_;
};

}  // namespace mlx_kd::search
