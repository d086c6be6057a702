// How an op's problem size is read off the arrays of a call, and whether they go together.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mlx/array.h"
#include "mlx_kd/runtime/pins/call_key.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::runtime {

// The arrays of a call in the order of the op's inputs, wherever they are.
class Inputs {
 public:
  explicit Inputs(const std::vector<mlx::core::array>& arrays) : count_(arrays.size()) {
    for (size_t i = 0; i < count_ && i < at_.size(); ++i) at_[i] = &arrays[i];
  }
  template <class... More>
  explicit Inputs(const mlx::core::array* first, const More*... more)
      : at_{first, more...}, count_(1 + sizeof...(more)) {}

  size_t size() const { return count_; }
  const mlx::core::array& operator[](size_t i) const { return *at_[i]; }
  const mlx::core::array* const* begin() const { return at_.data(); }
  const mlx::core::array* const* end() const { return at_.data() + count_; }

 private:
  std::array<const mlx::core::array*, spec::kMostInputs> at_;
  size_t count_;
};

// The element type, nullopt for those that ports cannot have.
std::optional<spec::Dtype> element_type(const mlx::core::array& array);
// Of any array, as MLX names it.
std::string type_text(const mlx::core::array& array);

// Whether an optional input was left out: its shape is {0}.
bool is_absent(const spec::Port& port, const mlx::core::array& array);

// Op::signature, or the axes of the inputs: found once for an op by asking its ports for their
// shapes at sizes that tell the dims apart. A leading dim is the first axis of a port and all axes
// of an array but those of the port after it; all such arrays have them alike.
class Signature {
 public:
  explicit Signature(const spec::Op& op);

  // False where the op has no signature of its own and some axis is not a dim, part of one or
  // constant, or some dim is not in an input's shape: such an op is never pinned and MLX checks its
  // arrays.
  bool readable() const { return readable_; }

  // `dims` come with the values of the attributes. Throws std::invalid_argument, "[op] what is
  // wrong, with the shapes", where the arrays do not go together. No allocation.
  void read(const Inputs& inputs, std::span<const double> scalars, DimValues& dims) const;

  // Whether read() would take them; only for an op without a signature of its own.
  bool takes(const Inputs& inputs, DimValues& dims) const;
  bool by_axes() const { return readable_ && !op_->signature; }

  // Shapes of the outputs of a call: `ports` at its size, with the leading axes of its arrays.
  // Throws std::invalid_argument for an axis that is longer than MLX takes.
  std::vector<mlx::core::Shape> output_shapes(const std::vector<mlx::core::array>& inputs,
                                              const std::vector<spec::Shape>& ports) const;

  // Throws std::invalid_argument where it is not the op's.
  void check_count(size_t count) const;

 private:
  struct Axis {
    int dim;         // index into Op::dims; -1: constant
    int64_t factor;  // the axis is dim / factor; or the constant
  };
  struct Port {
    bool leads;  // its first axis represents any number of axes
    std::vector<Axis> axes;
  };
  struct Source {
    size_t dim, port, behind;  // behind: axes of the port after the dim's
    bool leads;
  };

  void find_leading();
  bool find_axes(const DimValues& first_values, const DimValues& second_values);
  bool find_sources();
  std::vector<int64_t> expected(const Port& port, const DimValues& dims) const;
  bool has_axes(size_t port, const mlx::core::array& input) const;
  bool fits(size_t port, const Inputs& inputs, const DimValues& dims) const;
  void read_sources(const Inputs& inputs, DimValues& dims) const;
  void read_by_own(const Inputs& inputs, std::span<const double> scalars, DimValues& dims) const;
  [[noreturn]] void refuse(const Inputs& inputs, DimValues& dims) const;
  [[noreturn]] void refuse_size(size_t port, const mlx::core::Shape& shape) const;
  [[noreturn]] void refuse_axes(size_t port, const mlx::core::array& input) const;
  [[noreturn]] void refuse_parts(size_t dim, int64_t parts, const Inputs& inputs) const;
  [[noreturn]] void refuse_fit(size_t port, const Inputs& inputs, const DimValues& dims) const;

  const spec::Op* op_;
  bool readable_ = false;
  std::vector<Port> inputs_;
  std::vector<bool> leading_inputs_, leading_outputs_;
  size_t behind_ = 0;            // axes after the leading ones, of the first input that has them
  std::vector<Source> sources_;  // of each dim that is not an attribute
};

// The size with derived dims, as Op::complete gives it. Misuse where the op refuses it.
spec::Dims dims_of(const spec::Op& op, const DimValues& dims);

// "(2, 8)", as MLX's messages write shapes.
std::string shape_text(const mlx::core::Shape& shape);

}  // namespace mlx_kd::runtime
