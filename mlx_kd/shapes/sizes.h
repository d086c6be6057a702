// The problem sizes of a run: a suite of the op by name, or sizes that the user gives.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::shapes {

inline constexpr const char* kCustom = "custom";        // suite_name of given sizes
inline constexpr int64_t kMaxBytes = int64_t(1) << 47;  // of all arrays, 8 bytes an element
inline constexpr uint64_t kMaxFileBytes = uint64_t(16) << 20;

struct Sizes {
  std::string suite_name;
  std::vector<spec::Dims> sizes;  // complete (Op::complete), at least one, each once, in order
};

// `suite` names a suite (empty: the op's first); each of `shapes` is "rows=1,D=4096",
// "rows=1|64,D=4096" for every combination of the values, or the path of a JSON file: an array of
// {"rows": 1, "D": 4096}, {"sizes": [that array]}, or what kd suggest-shapes writes, {"ops":
// {"rmsnorm": {"sizes": [that array]}}}. Misuse, naming what is wrong and what is known: both
// given; a suite that the op lacks (`all_ops`: whose suites the message looks into); a file that is
// not JSON or holds no sizes; a name missing, unknown or twice; a size below 1 or beyond kMaxBytes;
// what op.complete refuses.
Sizes sizes_from(const spec::Op& op, const std::string& suite,
                 const std::vector<std::string>& shapes, const std::vector<spec::Op>& all_ops = {});

// A size as a user gives it, checked and complete, in the op's order of names. Misuse as above.
spec::Dims checked_size(const spec::Op& op, const spec::Dims& given);

}  // namespace mlx_kd::shapes
