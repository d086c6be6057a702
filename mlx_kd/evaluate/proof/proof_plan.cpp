#include "mlx_kd/evaluate/proof/proof_plan.h"

#include <unistd.h>

#include <algorithm>

#include "mlx_kd/base/error.h"

namespace mlx_kd::evaluate {
namespace {

constexpr Distribution kDistributions[] = {Distribution::normal, Distribution::magnitudes,
                                           Distribution::special};

int64_t port_bytes(const spec::Port& port, spec::Dtype dtype, const spec::Dims& dims) {
  return spec::element_count(port.shape(dims)) * spec::size_of(dtype);
}

// Appends a span that starts on a page, or with `guarded` ends before a page of its own.
Span append(int64_t& end, int64_t bytes, bool guarded) {
  const int64_t whole = round_up(bytes, page_bytes());
  const Span span{end + (guarded ? whole - bytes : 0), bytes};
  end += whole + (guarded ? page_bytes() : 0);
  return span;
}

// Places the case's spans after `end`, which it moves.
void place(const spec::Op& op, spec::Dtype dtype, Case& c, int64_t& end) {
  c.inputs.clear(), c.expected.clear(), c.y64.clear(), c.bound.clear();
  for (const auto& port : op.inputs)
    c.inputs.push_back(append(end, port_bytes(port, dtype, c.dims), true));
  for (const auto& port : op.outputs) {
    const int64_t elements = spec::element_count(port.shape(c.dims));
    c.expected.push_back(append(end, elements * spec::size_of(dtype), false));
    c.y64.push_back(append(end, elements * int64_t(sizeof(double)), false));
    c.bound.push_back(append(end, elements * int64_t(sizeof(float)), false));
  }
}

int64_t case_bytes(const spec::Op& op, spec::Dtype dtype, Case c) {
  int64_t end = 0;
  place(op, dtype, c, end);
  return end;
}

spec::Dims with_rows(const spec::Op& op, const spec::Dims& dims, int64_t rows) {
  spec::Dims given;
  for (const auto& name : op.dim_names)
    given.set(name, name == op.dim_names.front() ? rows : dims.at(name));
  return op.complete(given);
}

// The largest number of rows whose case needs at most `share` bytes.
spec::Dims fit(const spec::Op& op, spec::Dtype dtype, const Case& whole, int64_t share) {
  int64_t fits = 0, too_many = whole.dims.at(op.dim_names.front()) + 1;
  while (too_many - fits > 1) {
    Case c = whole;
    const int64_t rows = fits + (too_many - fits) / 2;
    c.dims = with_rows(op, whole.dims, rows);
    (case_bytes(op, dtype, c) <= share ? fits : too_many) = rows;
  }
  if (fits == 0)
    base::misuse("evaluate", "one row of size " + whole.dims.text() + " needs more than " +
                                 std::to_string(share >> 20) +
                                 " MiB of references: choose smaller sizes, or fewer of them");
  return with_rows(op, whole.dims, fits);
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

void shrink_to_memory(const spec::Op& op, spec::Dtype dtype, std::vector<Case>& cases,
                      int64_t budget) {
  std::vector<int64_t> needs;
  for (const Case& c : cases) needs.push_back(case_bytes(op, dtype, c));
  const int64_t share = fair_share(needs, budget);
  for (size_t i = 0; i < cases.size(); ++i)
    if (needs[i] > share) cases[i].dims = fit(op, dtype, cases[i], share);
}

// Case k is proved with the k-th value of each runtime input, the timed value among them.
std::vector<double> params_of(const spec::Op& op, const std::vector<double>& timed, size_t k) {
  std::vector<double> result;
  for (size_t i = 0; i < op.runtime_inputs.size(); ++i) {
    std::vector<double> values = {timed[i]};
    for (double value : op.runtime_inputs[i].proved)
      if (value != timed[i]) values.push_back(value);
    result.push_back(values[k % values.size()]);
  }
  return result;
}

size_t most_values(const spec::Op& op) {
  size_t result = 0;
  for (const auto& input : op.runtime_inputs) result = std::max(result, input.proved.size() + 1);
  return result;
}

}  // namespace

std::string name_of(Distribution distribution) {
  switch (distribution) {
    case Distribution::normal:
      return "normal";
    case Distribution::magnitudes:
      return "magnitudes";
    default:
      return "special";
  }
}

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

std::vector<double> default_params(const spec::Op& op) {
  std::vector<double> result;
  for (const auto& input : op.runtime_inputs) result.push_back(input.default_value);
  return result;
}

spec::Dims with_fewer_rows(const spec::Op& op, const spec::Dims& dims, int64_t most) {
  return with_rows(op, dims, std::min(most, dims.at(op.dim_names.front())));
}

size_t smallest_size(const spec::Op& op, spec::Dtype dtype, const std::vector<spec::Dims>& sizes) {
  const auto bytes = [&](const spec::Dims& dims) { return op.cost(dims, dtype).bytes; };
  return static_cast<size_t>(
      std::min_element(sizes.begin(), sizes.end(),
                       [&](const auto& a, const auto& b) { return bytes(a) < bytes(b); }) -
      sizes.begin());
}

CasePlan plan_cases(const spec::Op& op, spec::Dtype dtype, const std::vector<spec::Dims>& sizes,
                    const std::vector<double>& timed_params, const Protocol& protocol) {
  CasePlan plan;
  const size_t smallest = smallest_size(op, dtype, sizes);
  const auto add = [&](size_t size, size_t seed_index, Distribution distribution) {
    const uint64_t seed = protocol.proof_seeds[seed_index];
    const auto params = params_of(op, timed_params, plan.cases.size());
    plan.cases.push_back(
        {size, sizes[size], seed, seed_index, distribution, params, {}, {}, {}, {}});
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
  shrink_to_memory(op, dtype, plan.cases, protocol.reference_bytes);
  for (Case& c : plan.cases) place(op, dtype, c, plan.bytes);
  return plan;
}

}  // namespace mlx_kd::evaluate
