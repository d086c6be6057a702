// What a candidate is proved with: the cases, and where each lies in the shared memory.
//
// Layout of the memory, per case: the inputs, then per output MLX's result, y64 (double) and the
// error bound (float), row-major. Each span starts on a page; an input ends on the last byte before
// a page of its own that nobody may touch, so that reading past an input's end is noticed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mlx_kd/evaluate/protocol.h"
#include "mlx_kd/spec/op.h"

namespace mlx_kd::evaluate {

enum class Distribution {
  normal,      // standard normal
  magnitudes,  // log-uniform: over the whole range, large ones only, tiny ones only (by seed)
  special,     // normal, with what Op::add_special_values writes
};
std::string name_of(Distribution distribution);

struct Span {
  int64_t offset = 0, bytes = 0;
};

struct Case {
  size_t size = 0;        // index among the task's sizes
  spec::Dims dims;        // complete; that size, with a smaller first dim where memory is short
  uint64_t seed = 0;      // of the inputs
  size_t seed_index = 0;  // its place among the protocol's seeds
  Distribution distribution = Distribution::normal;
  std::vector<double> params;              // runtime inputs
  std::vector<Span> inputs;                // an entry an input
  std::vector<Span> expected, y64, bound;  // an entry an output
  std::string text() const;                // "rows=1,D=4096, normal, seed 1": for reasons
};

struct CasePlan {
  std::vector<Case> cases;    // the nine of the smallest size first, then one for each other size
  std::vector<size_t> timed;  // for each size the case whose inputs are timed (normal)
  size_t after_timing = 0;    // the case that is proved once more after timing
  int64_t bytes = 0;          // of the shared memory
};

// `timed_params`: the runtime inputs that are timed. Every value of RuntimeInput::proved occurs
// among the nine cases. Misuse (room evaluate) if a single row of the sizes needs more than the
// protocol's share of memory.
CasePlan plan_cases(const spec::Op& op, spec::Dtype dtype, const std::vector<spec::Dims>& sizes,
                    const std::vector<double>& timed_params, const Protocol& protocol);

// The size with at most so many rows: the first of its dim_names.
spec::Dims with_fewer_rows(const spec::Op& op, const spec::Dims& dims, int64_t most);

// The least traffic decides which size is the smallest.
size_t smallest_size(const spec::Op& op, spec::Dtype dtype, const std::vector<spec::Dims>& sizes);

std::vector<double> default_params(const spec::Op& op);

int64_t page_bytes();
int64_t round_up(int64_t value, int64_t multiple);

}  // namespace mlx_kd::evaluate
