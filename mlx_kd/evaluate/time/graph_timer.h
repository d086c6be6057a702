// Times in `graph` and `single` mode: an op as MLX's lazy arrays run it.
#pragma once

#include <mlx/array.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/evaluate/proof/proof_plan.h"
#include "mlx_kd/evaluate/time/statistics.h"

namespace mlx_kd::evaluate {

using Arrays = std::vector<mlx::core::array>;
using Function = std::function<Arrays(const Arrays&)>;

// The inputs of one size as MLX arrays, in several sets, each made when a sample first uses it:
// warm ones rotate within half the L2, cold ones are flushed before a sample and none is used twice
// in it. For one thread.
class GraphTimer {
 public:
  // Inputs come from the case of that size (repeated if its batch is smaller). `memory` must
  // outlive it.
  GraphTimer(const spec::Op& op, spec::Dtype t, const spec::Dims& dims, const Case& c,
             const std::byte* memory, int64_t l2_bytes, const Protocol& protocol,
             const devices::Accelerator* accelerator);

  // us per call of one sample: `calls` calls, the building of their graph included, in one eval.
  // Both sides of a pair see the same inputs. Outputs are freed untimed, except those that update
  // an input: they are the next call's input, so that MLX can give their memory on, as in a
  // program.
  double sample(const Function& function, int calls);
  // us of one call and its synchronisation.
  double sample_single(const Function& function) { return sample(function, 1); }

  int most_calls() const { return calls_; }  // of a sample in `graph` mode
  bool cold() const { return cold_; }
  // us in which the arrays of one call leave the host's caches, as the last sample saw it.
  double flush_us() const { return flush_us_; }

 private:
  // Those that the calls of a sample use in turn.
  std::span<Arrays> sets_for(int calls);
  Arrays make_set() const;

  // What an input array is filled with.
  struct Source {
    spec::ArraySpec array;
    const std::byte* data;
    int64_t bytes;
  };

  const devices::Accelerator* accelerator_;  // null where arrays lie in the host's memory
  std::vector<Source> sources_;
  bool cold_;
  int calls_;
  size_t most_sets_;
  std::vector<int> updates_;  // per output: the input that it updates, or -1
  std::vector<Arrays> sets_;
  double flush_us_ = 0;
};

struct GraphPairs {
  std::vector<double> first_us, second_us;
  std::vector<double> log_ratios;  // log(second / first)
};

// Calls of a sample of each side; both are divided by those of the first, so that a second side
// with more calls represents more work.
struct GraphCalls {
  int first, second;
};

// `pairs` pairs of samples next to each other in time, in random order, after one of each.
GraphPairs time_graph_pairs(GraphTimer& timer, const Function& first, const Function& second,
                            GraphCalls calls, int pairs, base::Random& random);

// How long samples and how many pairs of two sides are: fixed from what a call of each takes, and
// from the flush of its arrays before a sample, before any is compared.
struct GraphPlan {
  int calls, pairs;
  bool slow = false;  // a call takes longer than Protocol::slow_call_ms
};
GraphPlan plan_graph(double first_us, double second_us, int most_calls, const Protocol& protocol,
                     double flush_us = 0);

// How many times faster `first` is than `second`, with its interval: by `plan.pairs` pairs and the
// bootstrap. Where the plan is slow, by slow_pairs pairs if every ratio is above slow_ratio, and
// the interval is then their minimum and maximum, which holds the median in 31 of 32 cases for six
// pairs; else by as many as elsewhere.
struct GraphSpeedup {
  GraphPairs pairs;
  Interval speedup;
};
GraphSpeedup compare_graphs(GraphTimer& timer, const Function& first, const Function& second,
                            const GraphPlan& plan, const Protocol& protocol, uint64_t seed,
                            base::Random& random);

// us of one sample of each side.
struct GraphSides {
  std::function<double()> first_us, second_us;
};
// The same of a plan that is slow, with sides that time themselves.
GraphSpeedup compare_slow(const GraphSides& sides, const GraphPlan& plan, const Protocol& protocol,
                          uint64_t seed, base::Random& random);

// What a kernel is compared with.
struct Baseline {
  std::string name;   // "plain", "compiled", "composition"; empty: MLX has nothing to compare with
  Function function;  // null then
  GraphPlan plan;     // of pairs with it
  bool mlx_cannot = false;
  bool is_compiled = false;
  double us = 0;  // of a call, in the short sample that chose the form
};

// MLX at its best: the form whose median is lower in a short sample; where a call is slow, in one
// call of each. Where Op::mlx is absent or
// throws on the default device, the op's composition; where that is too, nothing. The op must
// outlive it.
Baseline mlx_at_its_best(const spec::Op& op, const std::vector<double>& scalars, GraphTimer& timer,
                         const Protocol& protocol, base::Random& random);

// The form that mlx_at_its_best has chosen in another process: its composition or its own form,
// compiled or plain.
Function mlx_form(const spec::Op& op, const std::vector<double>& scalars, bool is_composition,
                  bool is_compiled);

}  // namespace mlx_kd::evaluate
