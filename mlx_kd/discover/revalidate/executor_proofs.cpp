#include "mlx_kd/discover/revalidate/executor_proofs.h"

#include <algorithm>

#include "mlx_kd/discover/make_entry.h"

namespace mlx_kd::discover {

void ExecutorProofs::add(const packs::Entry& entry, size_t index) {
  const spec::Op& op = op_of(entry);
  const spec::Dtype dtype = spec::parse_float_dtype(entry.key.dtype);
  const auto sizes = proved_sizes(entry, op);
  const spec::Candidate candidate = candidate_of(entry, op);
  for (const spec::Dims& size : sizes) {
    auto group = std::find_if(groups_.begin(), groups_.end(), [&](const Group& one) {
      return one.op == &op && one.dtype == dtype && one.size == size;
    });
    if (group == groups_.end()) group = groups_.insert(group, {&op, dtype, size, {}, {}});
    group->indices.push_back(index);
    group->candidates.push_back(candidate);
  }
}

std::map<size_t, spec::Verdict> ExecutorProofs::run(uint64_t seed, Listener& listener,
                                                    Interrupt& interrupt) const {
  std::map<size_t, spec::Verdict> verdicts;
  evaluate::EvaluateOptions options;
  options.seed = seed;
  options.prove_only = true;
  for (const Group& group : groups_) {
    if (interrupt.raised()) break;
    listener.stage("proving " + group.op->name + " " + spec::name_of(group.dtype) +
                   " on the device simt");
    const auto evaluator =
        evaluate::make_evaluator({group.op, "simt", group.dtype, {group.size}}, options);
    const Interrupt::Attached attached(interrupt, *evaluator);
    evaluator->evaluate(group.candidates, [&](size_t i, const spec::Verdict& verdict) {
      spec::Verdict& known = verdicts.emplace(group.indices[i], verdict).first->second;
      if (known.status == spec::Status::benchmarked) known = verdict;
    });
  }
  return verdicts;
}

}  // namespace mlx_kd::discover
