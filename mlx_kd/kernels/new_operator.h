// From a user's kernel to an operator of the table: what `kd new-op` writes, and what its op.cpp
// calls.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "mlx_kd/kernels/user_kernel.h"

namespace mlx_kd::kernels {

// The operator that op.cpp describes by a UserKernel: ports, sizes and scalars of the kernel, its
// Python reference, its knobs and launch as one variant. Settings must fit all of `kernel.sizes`;
// other sizes are refused (misuse, room kernels) where one of those settings does not fit them.
// What else an Op has is left at its default, for op.cpp to set. The name is the kernel's.
spec::Op table_op(const UserKernel& kernel);

// The same where the kernel computes what another operator of the table does: its ports, sizes,
// reference and bound with this kernel in the place of its own ones.
spec::Op table_op(const UserKernel& kernel, spec::Op like);

struct NewOperator {
  std::string family, name;             // the folder: kernels/<family>/<name>/
  std::string summary = {};             // one line; empty: named after its reference
  std::vector<spec::Setting> won = {};  // settings that a run found, for its test
};

// The files of the operator's folder and its test, by their paths in the tree. The kernel needs a
// reference and sizes. Misuse (room new-op) for a name that is not lower-case letters, digits and
// underscores or is taken, and for what an operator of the table cannot have: recorded arrays as
// reference, listed launches.
std::map<std::string, std::string> operator_files(const UserKernel& kernel,
                                                  const NewOperator& about);

}  // namespace mlx_kd::kernels
