// What the declaration of an operator promises and a small run of it can check: `kd ops --check`.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::discover {

// "fill: float16, rows=3,D=7: element 4 of input 'x' is not written" per line, at every edge size
// in every type; empty: nothing is wrong. Checks what spec::faults_of cannot see: that the op has
// edge sizes, that its fill writes every element of every input in every distribution, and that its
// size is read off the arrays as it was given.
std::vector<std::string> check_op(const spec::Op& op);

}  // namespace mlx_kd::discover
