// How an op's problem size is read off the arrays of a call, and whether they go together.
#pragma once

#include <string>
#include <vector>

#include "mlx/array.h"
#include "mlx_kd/runtime/pins/call_key.h"
#include "mlx_kd/spec/op.h"

namespace mlx_kd::runtime {

// Found once an op, by asking its ports for their shapes at sizes that tell the dims apart. Where
// the first dim is called `rows`, the first axis of a port that holds it stands for all axes of an
// array but those of the port behind it; all such arrays have them alike.
class Signature {
 public:
  explicit Signature(const spec::Op& op);

  // False where some axis is no dim, part of one or constant, some dim stands in no input's shape,
  // or there are more than kMostDims: such an op is never pinned and MLX checks its arrays.
  bool readable() const { return readable_; }

  // dims in the order of Op::dim_names. Throws std::invalid_argument, "[op] what is wrong, with the
  // shapes", where the arrays do not go together. No allocation.
  void read(const std::vector<mlx::core::array>& inputs,
            std::array<int64_t, kMostDims>& dims) const;

  // Shapes of the outputs of a call: `ports` at its size, with the first axes of its arrays.
  std::vector<mlx::core::Shape> output_shapes(const std::vector<mlx::core::array>& inputs,
                                              const std::vector<spec::Shape>& ports) const;

 private:
  struct Axis {
    int dim;         // index into Op::dim_names; -1: constant
    int64_t factor;  // the axis is dim / factor; or the constant
    bool rows;       // stands for any number of axes
  };
  struct Source {
    size_t port, axis;
  };
  using Port = std::vector<Axis>;

  bool find_axes();
  bool find_sources();
  static bool holds_rows(const Port& port) { return !port.empty() && port.front().rows; }
  std::vector<int64_t> expected(const Port& port, const std::array<int64_t, kMostDims>& dims) const;
  bool has_axes(size_t port, const mlx::core::array& input) const;
  bool fits(size_t port, const std::vector<mlx::core::array>& inputs,
            const std::array<int64_t, kMostDims>& dims) const;
  [[noreturn]] void refuse_count(size_t count) const;
  [[noreturn]] void refuse_axes(size_t port, const mlx::core::array& input) const;
  [[noreturn]] void refuse_parts(size_t dim, int64_t parts,
                                 const std::vector<mlx::core::array>& inputs) const;
  [[noreturn]] void refuse_fit(size_t port, const std::vector<mlx::core::array>& inputs,
                               const std::array<int64_t, kMostDims>& dims) const;

  const spec::Op* op_;
  bool readable_ = false;
  std::vector<Port> inputs_;
  std::vector<bool> rows_outputs_;  // whether the first axis stands for any number
  std::vector<Source> sources_;     // one a dim
};

// The size with derived dims, as Op::complete gives it. Misuse where the op refuses it.
spec::Dims dims_of(const spec::Op& op, const std::array<int64_t, kMostDims>& dims);

// "(2, 8)", as MLX's messages write shapes.
std::string shape_text(const mlx::core::Shape& shape);

}  // namespace mlx_kd::runtime
