// One call of an operator, from arrays to arrays.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "mlx/array.h"
#include "mlx/utils.h"
#include "mlx_kd/runtime/call/read_call.h"

namespace mlx_kd::runtime {

// What call() of ops.h does, the op and its numbers found and checked: the pinned kernel, MLX's
// form, or the op's default setting where MLX has no form of it on the stream's device. Throws
// std::invalid_argument for arrays that do not go together or have types that nothing here takes,
// std::runtime_error where no device can run the call.
std::vector<mlx::core::array> run(const Operator& op, std::vector<mlx::core::array> inputs,
                                  const Numbers& numbers, const mlx::core::StreamOrDevice& s);

// The array in place of an optional one that was left out: one axis, no elements. Made once.
const mlx::core::array& left_out(spec::Dtype type);

// Whether nothing looks at calls, because pins and the shape log are off: then the call is counted,
// without its size, and MLX's operator is all that is left to do. Some ns. Throws as
// Process::modes() does.
bool passes_by();

// std::invalid_argument where there is no such op.
const Operator& known_operator(const std::string& name);

// Defaults where not given. std::invalid_argument for an unknown name and for what check_numbers
// refuses.
Numbers numbers_of(const Operator& op, const std::map<std::string, double>& given);

// std::invalid_argument for a scalar outside its range and an attribute below 0.
void check_numbers(const Operator& op, const Numbers& numbers);
bool are_valid(const Operator& op, const Numbers& numbers);

// The int as an array of shape {1}, of the type of a port that has an int_range.
mlx::core::array array_of_int(const Operator& op, size_t port, int64_t value);

// std::invalid_argument, naming the value, for an int outside the port's range at the size of the
// call, and for arrays that do not go together. `inputs` have the int as an array.
void check_int(const Operator& op, size_t port, int64_t value,
               const std::vector<mlx::core::array>& inputs, const Numbers& numbers,
               const mlx::core::StreamOrDevice& s);

}  // namespace mlx_kd::runtime
