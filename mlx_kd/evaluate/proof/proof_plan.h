// What a candidate is proved with: the cases, and where each lies in the shared memory.
//
// Layout of the memory, per case: the inputs, then per output what its judge needs, row-major: the
// expected array (MLX's result; for Judge::exact the bits that are demanded; for Judge::bound y64
// in the output's type if MLX has none), y64 (double), the error bound and, for ops with
// approximate variants, the terms S (float). Judge::residuals needs none of them. Each span starts
// on a page; an input ends on the last byte before a page of its own that nothing may touch, so
// that reading past an input's end is noticed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mlx_kd/evaluate/protocol.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::evaluate {

struct Span {
  int64_t offset = 0, bytes = 0;
};

// Where what an output is held against lies; a span without bytes is not there.
struct OutputSpans {
  spec::ArraySpec array;
  Span expected, y64, bound, terms;
};

struct Case {
  size_t size = 0;        // index among the task's sizes
  spec::Dims dims;        // complete; that size, with a smaller batch dim if memory is short
  uint64_t seed = 0;      // of the inputs
  size_t seed_index = 0;  // its place among the protocol's seeds
  spec::Distribution distribution = spec::Distribution::normal;
  std::vector<double> scalars;
  std::vector<spec::ArraySpec> input_arrays = {};
  std::vector<Span> inputs = {};          // one entry per input
  std::vector<OutputSpans> outputs = {};  // one entry per output
  std::string text() const;               // "rows=1,D=4096, normal, seed 1": for reasons
};

struct CasePlan {
  std::vector<Case> cases;    // the nine of the smallest size first, then one for each other size
  std::vector<size_t> timed;  // for each size the case whose inputs are timed (normal)
  size_t after_timing = 0;    // the case that is proved once more after timing
  // A small part of the smallest size, for devices that watch every access. Its outputs have no
  // spans.
  Case watched;
  int64_t bytes = 0;  // of the shared memory
};

// `timed_scalars`: those that are timed. Every value of Scalar::proved occurs among the nine cases.
// Misuse (room evaluate) if the references of one problem of the sizes need more than the
// protocol's share of memory.
CasePlan plan_cases(const spec::Op& op, spec::Dtype t, const std::vector<spec::Dims>& sizes,
                    const std::vector<double>& timed_scalars, const Protocol& protocol);

// The least traffic decides which size is the smallest.
size_t smallest_size(const spec::Op& op, spec::Dtype t, const std::vector<spec::Dims>& sizes);

int64_t page_bytes();
int64_t round_up(int64_t value, int64_t multiple);

}  // namespace mlx_kd::evaluate
