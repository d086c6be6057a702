// Metal entries of a pack where no device takes Metal kernels: proved on the executor.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "mlx_kd/discover/interrupt.h"
#include "mlx_kd/discover/listener.h"
#include "mlx_kd/evaluate/evaluator.h"
#include "mlx_kd/packs/entry.h"

namespace mlx_kd::discover {

class ExecutorProofs {
 public:
  // Misuse where the entry cannot be proved: damaged, or of a text that this program does not make.
  void add(const packs::Entry& entry, size_t index);

  // By the places of the entries, all that were looked at before an interruption: of several sizes
  // the first at which the kernel failed, or the last.
  std::map<size_t, spec::Verdict> run(uint64_t seed, Listener& listener,
                                      Interrupt& interrupt) const;

 private:
  struct Group {  // of one op, type and size
    const spec::Op* op;
    spec::Dtype dtype;
    spec::Dims size;
    std::vector<size_t> indices;
    std::vector<spec::Candidate> candidates;
  };
  std::vector<Group> groups_;
};

}  // namespace mlx_kd::discover
