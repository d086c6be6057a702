// What the generated functions (mlx_kd/codegen) are made of.
#pragma once

#include <optional>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "mlx_kd/runtime/call/call.h"
#include "mlx_kd/runtime/call/graph_forms.h"

namespace mlx_kd::runtime {

// Each is copied once; an initializer list would copy it twice.
template <class... More>
std::vector<mlx::core::array> list_of(const More&... arrays) {
  std::vector<mlx::core::array> list;
  list.reserve(sizeof...(arrays));
  (list.push_back(arrays), ...);
  return list;
}

inline mlx::core::array given(const std::optional<mlx::core::array>& array) {
  return array ? *array : left_out(spec::Dtype::float32);
}

// An int as an array of the port's type; check_int() says if it is outside its range.
inline mlx::core::array given(const Operator& op, size_t port,
                              const std::variant<int64_t, mlx::core::array>& value) {
  const auto* number = std::get_if<int64_t>(&value);
  return number ? array_of_int(op, port, *number) : std::get<mlx::core::array>(value);
}

inline void check_int(const Operator& op, size_t port,
                      const std::variant<int64_t, mlx::core::array>& value,
                      const std::vector<mlx::core::array>& inputs, const Numbers& numbers,
                      const mlx::core::StreamOrDevice& s) {
  if (const auto* number = std::get_if<int64_t>(&value))
    check_int(op, port, *number, inputs, numbers, s);
}

inline mlx::core::array only(std::vector<mlx::core::array> arrays) {
  return std::move(arrays[0]);
}

inline std::pair<mlx::core::array, mlx::core::array> pair_of(std::vector<mlx::core::array> arrays) {
  return {std::move(arrays[0]), std::move(arrays[1])};
}

template <size_t... i>
auto tuple_of(std::vector<mlx::core::array> arrays, std::index_sequence<i...>) {
  return std::make_tuple(std::move(arrays[i])...);
}

// Whether MLX's form may run on the arrays as they are: they go together, the numbers are valid,
// and the gradient is that of the form. What is not a plain call goes the long way, which says what
// is wrong with it. Some ns. For an op whose inputs are all of its own type.
inline bool is_plain(const Operator& op, const Inputs& inputs, const Numbers& numbers) {
  DimValues dims;  // written before it is read
  return op.signature.by_axes() && op.signature.takes(inputs, dims) && are_valid(op, numbers) &&
         (op.op->gradient.by == spec::Gradient::By::mlx || !is_traced(inputs));
}

inline std::vector<mlx::core::array> run_checked(const Operator& op,
                                                 std::vector<mlx::core::array> inputs,
                                                 const Numbers& numbers,
                                                 const mlx::core::StreamOrDevice& s) {
  check_numbers(op, numbers);
  return run(op, std::move(inputs), numbers, s);
}

}  // namespace mlx_kd::runtime
