// Kernels all of whose barriers are at the top level of their body, cut there: the threads of a
// group can then run as one loop for each stretch between two barriers, without fibers.
//
// That is right because the threads of a group that reach one barrier have all left the stretch
// before it, and because what one thread keeps from a stretch to the next is known: it is computed
// again where only places and constants go into it (replayed), else stored for each thread (kept).
//
// Between two barriers threads may run in any order, statement by statement. So what a condition
// leaves to one thread, "if (t == 0) s[0] = 0;", becomes a stretch of its own: a loop with such a
// statement in it is not vectorised, and no loop is needed for it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/msl/parse/body.h"
#include "mlx_kd/msl/parse/calls.h"

namespace mlx_kd::msl {

struct Split {
  struct Kept {
    Local local;
    size_t since = 0;       // the stretch that declares it
    std::set<size_t> used;  // the stretches that name it
  };
  // The only threads that have anything to do in a stretch.
  struct Lone {
    std::string attribute;  // thread_position_in_threadgroup: in x; thread_index_in_threadgroup
    uint32_t at = 0;
  };
  struct Stretch {
    std::vector<Range> statements;  // without what is shared
    std::vector<Range> replayed;    // of earlier stretches, in order
    std::optional<Lone> lone;
  };
  std::vector<Range> shared;
  std::vector<std::string> variables;  // of the threadgroup, declared in `shared`
  std::vector<Kept> kept;
  std::vector<Stretch> stretches;
};

// None where it is not certain that loops compute what fibers do.
std::optional<Split> split_at_barriers(const Unit& unit, const Function& function,
                                       const CallGraph& calls);

}  // namespace mlx_kd::msl
