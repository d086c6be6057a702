// The public functions of the operators, as their op.cpp and Op::doc declare them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::codegen {

struct Parameter {
  enum class Kind { array, optional_array, int_or_array, real, integer } kind;
  std::string name, text;  // text: "" where the op says nothing of it
  std::string value;       // the default, as C++ and Python both write it; "" where there is none
  size_t index;            // into Op::inputs, Op::scalars or Op::dims (an attribute)
  bool is_attribute = false;
  bool may_be_left_out = false;  // of an optional array: no array that must be given follows it

  bool is_array() const { return kind != Kind::real && kind != Kind::integer; }
};

struct Function {
  const spec::Op* op;
  std::string name;
  std::vector<Parameter> parameters;  // arrays, scalars, attributes
  // The header of `<op>_in_mlx`, MLX's form with these parameters and a StreamOrDevice; "" where
  // the op has none and Op::mlx runs.
  std::string form;
};

// Of all operators but hidden ones. `forms`: headers by op. Fails (exit 1), naming the operators,
// where two functions would have one name, or a doc has more parameters than its op.
std::vector<Function> functions_of(const std::vector<spec::Op>& ops,
                                   const std::map<std::string, std::string>& forms);

}  // namespace mlx_kd::codegen
