// One call of an operator, from arrays to arrays.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "mlx/array.h"
#include "mlx/utils.h"
#include "mlx_kd/runtime/pins/call_key.h"
#include "mlx_kd/runtime/pins/operators.h"

namespace mlx_kd::runtime {

// An op's numbers in its order, the first Op::runtime_inputs.size() of them.
using Params = std::array<double, 8>;

// What call() of ops.h does, the op and its numbers found.
std::vector<mlx::core::array> run(const Operator& op, const std::vector<mlx::core::array>& inputs,
                                  const Params& params, const mlx::core::StreamOrDevice& s);

// Whether nobody looks at calls, since pins and the shape log are off: then the call is counted,
// without its size, and MLX's operator is all that is left to do. Some ns. Throws as
// Process::modes() does.
bool passes_by();

// The inputs as the op's ports want them: for rope the angles of one position without axes of 1
// before them. std::invalid_argument where that is not what they are.
std::vector<mlx::core::array> prepared(const Operator& op,
                                       const std::vector<mlx::core::array>& inputs,
                                       const mlx::core::StreamOrDevice& s);

// std::invalid_argument where there is no such op.
const Operator& known_operator(const std::string& name);

// Defaults where not given. std::invalid_argument for an unknown name and for what check_params
// refuses.
Params params_of(const Operator& op, const std::map<std::string, double>& given);

// std::invalid_argument for NaN and infinities, and for an eps that is not above 0.
void check_params(const Operator& op, const Params& params);

// The call as lookup sees it; nullopt where no pin can serve it: mixed or other types, no elements,
// sizes that cannot be read. std::invalid_argument where the arrays do not go together.
std::optional<Query> query_of(const Operator& op, const std::vector<mlx::core::array>& inputs,
                              const Params& params, const mlx::core::Stream& stream);

}  // namespace mlx_kd::runtime
