#include "mlx_kd/evaluate/proof/proof_plan.h"

#include <unistd.h>

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/spec/op/rows.h"

namespace mlx_kd::evaluate {
namespace {

using spec::Distribution;

constexpr Distribution kDistributions[] = {Distribution::normal, Distribution::magnitudes,
                                           Distribution::special};
// Of a call whose every access is watched: enough for two groups of every kernel's launch, and few
// enough to be quick.
constexpr int64_t kWatchedBatch = 9;

// Appends a span that starts on a page, or with `guarded` ends before a page of its own.
Span append(int64_t& end, int64_t bytes, bool guarded) {
  const int64_t whole = round_up(bytes, page_bytes());
  const Span span{end + (guarded ? whole - bytes : 0), bytes};
  end += whole + (guarded ? page_bytes() : 0);
  return span;
}

bool has_approximate(const spec::Op& op) {
  return std::any_of(op.variants.begin(), op.variants.end(),
                     [](const spec::Variant& variant) { return !variant.approximate.empty(); });
}

OutputSpans place_output(const spec::Op& op, const spec::Port& port, spec::Dtype t,
                         const spec::Dims& dims, int64_t& end) {
  OutputSpans spans{spec::array_of(port, t, dims), {}, {}, {}, {}};
  const int64_t elements = spans.array.elements();
  if (port.judge != spec::Judge::residuals)
    spans.expected = append(end, spans.array.bytes(), false);
  if (port.judge != spec::Judge::bound) return spans;
  spans.y64 = append(end, elements * int64_t(sizeof(double)), false);
  spans.bound = append(end, elements * int64_t(sizeof(float)), false);
  if (has_approximate(op)) spans.terms = append(end, elements * int64_t(sizeof(float)), false);
  return spans;
}

// Places the case's spans after `end`, which it moves.
void place(const spec::Op& op, spec::Dtype t, Case& c, int64_t& end, bool with_outputs = true) {
  c.input_arrays = spec::arrays_of(op.inputs, t, c.dims);
  c.inputs.clear(), c.outputs.clear();
  for (const spec::ArraySpec& array : c.input_arrays)
    c.inputs.push_back(append(end, array.bytes(), true));
  for (const spec::Port& port : op.outputs)
    c.outputs.push_back(with_outputs
                            ? place_output(op, port, t, c.dims, end)
                            : OutputSpans{spec::array_of(port, t, c.dims), {}, {}, {}, {}});
}

int64_t case_bytes(const spec::Op& op, spec::Dtype t, Case c) {
  int64_t end = 0;
  place(op, t, c, end);
  return end;
}

[[noreturn]] void refuse_memory(const std::string& what, int64_t share) {
  base::misuse("evaluate", what + " needs more than " + std::to_string(share >> 20) +
                               " MiB of references: choose smaller sizes, or fewer of them");
}

// One of the batch dim, and each of Op::proof_dims halved until the case needs at most `share`
// bytes.
spec::Dims fit_parts(const spec::Op& op, spec::Dtype t, Case c, int64_t share) {
  const Case whole = c;
  if (!op.batch_dim.empty()) c.dims = spec::with_batch(op, c.dims, 1);
  while (case_bytes(op, t, c) > share) {
    const spec::Dims before = c.dims;
    for (const std::string& name : op.proof_dims)
      c.dims.set(name, std::max<int64_t>(1, c.dims.at(name) / 2));
    if (c.dims == before) refuse_memory("one part of size " + whole.dims.text(), share);
  }
  return c.dims;
}

// The most rows whose case needs at most `share` bytes.
spec::Dims fit(const spec::Op& op, spec::Dtype t, const Case& whole, int64_t share) {
  if (op.batch_dim.empty()) refuse_memory("size " + whole.dims.text(), share);
  int64_t fits = 0, too_many = whole.dims.at(spec::rows_dim(op)) + 1;
  while (too_many - fits > 1) {
    Case c = whole;
    const int64_t rows = fits + (too_many - fits) / 2;
    c.dims = spec::with_rows(op, whole.dims, rows);
    (case_bytes(op, t, c) <= share ? fits : too_many) = rows;
  }
  if (fits == 0 && !op.proof_dims.empty()) return fit_parts(op, t, whole, share);
  if (fits == 0) refuse_memory(spec::rows_dim(op) + " = 1 of size " + whole.dims.text(), share);
  return spec::with_rows(op, whole.dims, fits);
}

// The share of memory of a case such that all fit: small ones take what they need, the rest is
// divided among the large.
int64_t fair_share(std::vector<int64_t> needs, int64_t budget) {
  std::sort(needs.begin(), needs.end());
  for (size_t i = 0; i < needs.size(); ++i) {
    const int64_t share = budget / static_cast<int64_t>(needs.size() - i);
    if (needs[i] > share) return share;
    budget -= needs[i];
  }
  return needs.back();
}

void shrink_to_memory(const spec::Op& op, spec::Dtype t, const std::vector<Case*>& cases,
                      int64_t budget) {
  std::vector<int64_t> needs;
  for (const Case* c : cases) needs.push_back(case_bytes(op, t, *c));
  const int64_t share = fair_share(needs, budget);
  for (size_t i = 0; i < cases.size(); ++i)
    if (needs[i] > share) cases[i]->dims = fit(op, t, *cases[i], share);
}

// Where memory is mostly weights, whose every copy is large, the timed cases have half of it.
void shrink_to_memory(const spec::Op& op, spec::Dtype t, CasePlan& plan, int64_t budget) {
  std::vector<Case*> timed, others;
  for (size_t i = 0; i < plan.cases.size(); ++i) {
    const bool is_timed = std::find(plan.timed.begin(), plan.timed.end(), i) != plan.timed.end();
    (is_timed && !op.proof_dims.empty() ? timed : others).push_back(&plan.cases[i]);
  }
  if (timed.empty()) return shrink_to_memory(op, t, others, budget);
  shrink_to_memory(op, t, timed, budget / 2);
  shrink_to_memory(op, t, others, budget / 2);
}

// Case k is proved with the k-th value of each scalar, the timed value among them.
std::vector<double> scalars_of(const spec::Op& op, const std::vector<double>& timed, size_t k) {
  std::vector<double> result;
  for (size_t i = 0; i < op.scalars.size(); ++i) {
    std::vector<double> values = {timed[i]};
    for (double value : op.scalars[i].proved)
      if (value != timed[i]) values.push_back(value);
    result.push_back(values[k % values.size()]);
  }
  return result;
}

size_t most_values(const spec::Op& op) {
  size_t result = 0;
  for (const auto& scalar : op.scalars) result = std::max(result, scalar.proved.size() + 1);
  return result;
}

}  // namespace

std::string Case::text() const {
  return dims.text() + ", " + name_of(distribution) + ", seed " + std::to_string(seed);
}

int64_t page_bytes() {
  static const int64_t bytes = sysconf(_SC_PAGESIZE);
  return bytes;
}

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

size_t smallest_size(const spec::Op& op, spec::Dtype t, const std::vector<spec::Dims>& sizes) {
  const auto bytes = [&](const spec::Dims& dims) { return spec::cost_of(op, dims, t).bytes; };
  return static_cast<size_t>(
      std::min_element(sizes.begin(), sizes.end(),
                       [&](const auto& a, const auto& b) { return bytes(a) < bytes(b); }) -
      sizes.begin());
}

CasePlan plan_cases(const spec::Op& op, spec::Dtype t, const std::vector<spec::Dims>& sizes,
                    const std::vector<double>& timed_scalars, const Protocol& protocol) {
  CasePlan plan;
  const size_t smallest = smallest_size(op, t, sizes);
  const auto add = [&](size_t size, size_t seed_index, Distribution distribution) {
    const uint64_t seed = protocol.proof_seeds[seed_index];
    const auto scalars = scalars_of(op, timed_scalars, plan.cases.size());
    plan.cases.push_back({size, sizes[size], seed, seed_index, distribution, scalars});
  };
  for (size_t seed = 0; seed < protocol.proof_seeds.size(); ++seed)
    for (Distribution distribution : kDistributions) add(smallest, seed, distribution);
  plan.after_timing = plan.cases.size() - 2;
  while (plan.cases.size() < most_values(op)) add(smallest, 0, Distribution::normal);
  plan.timed.assign(sizes.size(), 0);
  for (size_t size = 0; size < sizes.size(); ++size) {
    if (size == smallest) continue;
    plan.timed[size] = plan.cases.size();
    add(size, 0, Distribution::normal);
  }
  shrink_to_memory(op, t, plan, protocol.reference_bytes);
  for (Case& c : plan.cases) place(op, t, c, plan.bytes);
  plan.watched = plan.cases.front();
  plan.watched.dims = spec::with_batch(op, plan.watched.dims, kWatchedBatch);
  place(op, t, plan.watched, plan.bytes, false);
  return plan;
}

}  // namespace mlx_kd::evaluate
