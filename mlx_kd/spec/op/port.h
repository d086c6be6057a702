// The arrays and numbers that an operator takes and gives.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "mlx_kd/spec/dtype.h"
#include "mlx_kd/spec/named_ints.h"

namespace mlx_kd::spec {

using Shape = std::vector<int64_t>;

int64_t element_count(const Shape& shape);

// An array without its memory. Row-major unless strides are given.
struct ArraySpec {
  Shape shape;
  Dtype type = Dtype::float32;
  std::vector<int64_t> strides = {};  // elements per axis; empty: row-major

  int64_t elements() const { return element_count(shape); }
  int64_t bytes() const { return elements() * size_of(type); }  // of the elements, without gaps
  friend bool operator==(const ArraySpec&, const ArraySpec&) = default;
};

// Elements per step of each axis of a row-major array.
std::vector<int64_t> row_major_strides(const Shape& shape);

// The element type of a port: the candidate's own type T (the default), a fixed type, or one that
// follows from T and the size (an attribute says which).
class PortType {
 public:
  using Chosen = std::function<Dtype(Dtype t, const Dims&)>;

  PortType() = default;
  PortType(Dtype fixed) : fixed_(fixed), follows_(false) {}
  PortType(Chosen chosen) : chosen_(std::move(chosen)), follows_(false) {}

  bool follows() const { return follows_; }  // it is T
  // The fixed type; nullopt-like: meaningless unless is_fixed().
  bool is_fixed() const { return !follows_ && !chosen_; }
  Dtype at(Dtype t, const Dims& dims) const {
    return follows_ ? t : chosen_ ? chosen_(t, dims) : fixed_;
  }

 private:
  Chosen chosen_;
  Dtype fixed_ = Dtype::float32;
  bool follows_ = true;
};

// How an output is judged. docs/measuring.md says what each accepts.
enum class Judge {
  bound,      // floats, within the error bound around float64
  exact,      // bit for bit: integers, bytes, copies, the same draw for the same key
  residuals,  // by Op::residuals: factorisations, and results that are right in several ways
};
std::string name_of(Judge judge);

struct Port {
  std::string name;                         // "inp", "weight", "out"
  std::function<Shape(const Dims&)> shape;  // row-major
  PortType type = {};
  Judge judge = Judge::bound;  // of an output
  // Of an output: the input whose memory it takes over. The kernel gets one pointer for both, and
  // what it does not write keeps its bits. Same shape and type.
  std::string updates = {};
  // Of an input: it may have any strides but 1 on its last axis, and the kernel receives them
  // (KD_STRIDE); otherwise an array that is not row-major is copied first.
  bool strided = false;
  // Of an input: it may be absent. Then its shape is {0} at that size (an attribute of the op says
  // so) and the kernel gets no elements.
  bool optional = false;
  // Of an input of a fixed integer type: a call may give an int in its place, which represents an
  // array of shape {1}; an int outside the least and the most that this gives for a size is an
  // error at the call. Left out: only an array will do.
  std::function<std::pair<int64_t, int64_t>(const Dims&)> int_range = {};
};

ArraySpec array_of(const Port& port, Dtype t, const Dims& dims);
std::vector<ArraySpec> arrays_of(const std::vector<Port>& ports, Dtype t, const Dims& dims);
int64_t bytes_of(const std::vector<Port>& ports, Dtype t, const Dims& dims);

// A number passed to the kernel at run time, never a knob: eps, a temperature, a position.
struct Scalar {
  std::string name;            // "eps"
  double default_value = 0;    // what is timed and pinned unless asked otherwise
  std::vector<double> proved;  // values that every candidate is proved with, the default among them
  // Valid: least <= value <= most; `above` excludes least itself, `integer` fractions.
  double least = -std::numeric_limits<double>::max(), most = std::numeric_limits<double>::max();
  bool above = false;
  bool integer = false;

  // "give a number above 0"; empty where the value is valid. NaN and infinities never are.
  std::string why_not(double value) const;
};

// One number of an operator's size.
struct Dim {
  std::string name;  // "rows"
  // dim: positive, the extent of some axis. attribute: a choice of the model that is not an extent
  // (bits, causal, k); may be 0. Both are part of a pin's key.
  enum class Kind { dim, attribute } kind = Kind::dim;
  // It represents all leading axes of the arrays that begin with it ("rows" of [..., D]).
  bool leading = false;
  // A pin may cover a range of it (keys S of attention, rows), proved at its ends and inside.
  bool free = false;
  int64_t default_value = 0;  // of an attribute that is not given
};

}  // namespace mlx_kd::spec
