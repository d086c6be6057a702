// The statements at the top level of a kernel's body, as far as they matter for running its threads
// as loops between barriers (split.h).
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "mlx_kd/msl/parse/unit.h"

namespace mlx_kd::msl {

// A variable of one thread.
struct Local {
  std::string name;
  uint32_t name_at = 0;
  Range type;    // without qualifiers and address spaces: "vec<T,4>"
  Range bounds;  // "[4]"; empty for what is not an array
  Range value;   // what it is initialised with; empty if it is not
  bool pointer = false;
};

struct BodyStatement {
  enum class Kind : uint8_t {
    barrier,      // threadgroup_barrier(...);
    shared,       // the same for all threads: constexpr, using, typedef, threadgroup variables
    declaration,  // of locals
    assignment,   // target op= value; target++;
    other,
  };
  Kind kind = Kind::other;
  Range tokens;
  std::vector<Local> locals;  // of a declaration
  uint32_t target = 0;        // of an assignment: the token of its name
  Range value;                // of an assignment
};

// `variables`: where the declarations of the function's threadgroup variables start. None if the
// body holds what cannot be told apart with certainty.
std::optional<std::vector<BodyStatement>> read_body(const Unit& unit, const Function& function,
                                                    const std::set<uint32_t>& variables);

// "=", "+=", ... "++", "--".
bool is_assigning(const Token& token);

}  // namespace mlx_kd::msl
