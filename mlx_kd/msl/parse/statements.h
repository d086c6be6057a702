// What is in function bodies and matters to us: threadgroup variables.
#pragma once

#include <vector>

#include "mlx_kd/msl/parse/unit.h"

namespace mlx_kd::msl {

// threadgroup float tile[32][33];
struct GroupVariable {
  std::string name;
  Range type;       // the tokens of its type
  Range bounds;     // the tokens of "[32][33]"; empty for a scalar
  Range value;      // the tokens of "= {0}"; empty if there is none
  Range statement;  // the whole declaration with its semicolon
  uint32_t function = 0;
  uint32_t word = 0;  // the token threadgroup
  bool initialised = false;
  bool outermost = false;  // at the top level of its function
  Position at;
};

// In order of place. Pointers to threadgroup memory are none.
std::vector<GroupVariable> group_variables(const Unit& unit);

}  // namespace mlx_kd::msl
