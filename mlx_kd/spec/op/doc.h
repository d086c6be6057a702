// The words of the functions that users call: `kd` generates the C++ header, the Python functions,
// their stubs and the API pages from them.
#pragma once

#include <string>
#include <vector>

namespace mlx_kd::spec {

struct DocLine {
  std::string name;  // of the function's parameter: "x" for a port that is called "inp"
  std::string text;  // "[..., D], at least one axis"
};

struct Doc {
  // The public function; empty: the op's name. An op that is an implementation detail (a gradient)
  // has `hidden` and no function but call("name", ...).
  std::string function = {};
  std::vector<std::string> aliases = {};  // further names, in Python alone
  std::string brief = {};  // what it computes, whole sentences; the first is used alone in lists
  // Of the inputs, then of the scalars, then of the attributes, each in the op's order. Those left
  // out at the end have the op's own names and no text; but attributes left out of an op with a
  // signature of its own are not parameters: it reads them off the arrays.
  std::vector<DocLine> parameters = {};
  std::string returns = {};
  std::string errors = {};
  bool hidden = false;
};

}  // namespace mlx_kd::spec
