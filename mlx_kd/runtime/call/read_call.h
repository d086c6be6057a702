// What the arrays of a call say: its size, its type, and whether one of our kernels may serve it.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mlx/array.h"
#include "mlx/stream.h"
#include "mlx_kd/runtime/pins/call_key.h"
#include "mlx_kd/runtime/pins/operators.h"

namespace mlx_kd::runtime {

// What a call gives in addition to its arrays.
struct Numbers {
  std::array<double, kMostParams> scalars = {};  // in the order of Op::scalars
  DimValues attributes = {};                     // each at the place of its dim in Op::dims
};

std::span<const double> scalars_of(const Operator& op, const Numbers& numbers);

// Of the first array of type T; float32 where the op has none; nullopt for other
// types.
std::optional<spec::Dtype> own_type(const spec::Op& op,
                                    const std::vector<mlx::core::array>& inputs);

// Whether an input that is there has no elements.
bool is_empty(const spec::Op& op, const std::vector<mlx::core::array>& inputs);

// What the arrays of a call say.
struct Read {
  DimValues dims = {};  // of the call: attributes too; those that were given where it is unreadable
  // The call as lookup sees it; nullopt where none of our kernels can serve it: mixed or other
  // types of T, no elements, sizes that cannot be read.
  std::optional<Query> query;
};
// std::invalid_argument where the arrays do not go together, or a port whose type is fixed or
// follows from the size has another.
Read read_call(const Operator& op, const std::vector<mlx::core::array>& inputs,
               const Numbers& numbers, const mlx::core::Stream& stream);

// Why read_call() has no query for these arrays.
std::string unfit_reason(const Operator& op, const std::vector<mlx::core::array>& inputs);

}  // namespace mlx_kd::runtime
