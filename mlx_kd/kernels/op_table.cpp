#include "mlx_kd/kernels/op_table.h"

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/make_table.h"
#include "mlx_kd/kernels/user_table.h"

namespace mlx_kd::kernels {

std::vector<spec::Op> make_table(const std::vector<MakeOp*>& makers) {
  std::vector<spec::Op> ops;
  for (MakeOp* make : makers) ops.push_back(make());
  std::sort(ops.begin(), ops.end(),
            [](const spec::Op& a, const spec::Op& b) { return a.name < b.name; });
  std::string faults;
  for (const spec::Op& op : ops)
    for (const std::string& fault : spec::faults_of(op)) faults += "\n  " + op.name + ": " + fault;
  if (!faults.empty())
    base::fail("kernels", "operators that the table cannot take; correct their op.cpp:" + faults);
  return ops;
}

const std::vector<spec::Op>& all_ops() {
  static const std::vector<spec::Op> ops = make_table(op_makers());
  return ops;
}

const spec::Op& find_op(const std::string& name) {
  std::vector<std::string> known;
  for (const spec::Op& op : all_ops()) {
    if (op.name == name) return op;
    known.push_back(op.name);
  }
  if (const spec::Op* op = find_user_op(name)) return *op;
  base::misuse("kernels", "op '" + name + "' is not known: choose " + base::list_of(known));
}

const std::string& kernel_source(const std::string& path) {
  const auto found = kernel_sources().find(path);
  if (found == kernel_sources().end())
    base::fail("kernels", "there is no kernel source '" + path + "': check its name in op.cpp");
  return found->second;
}

}  // namespace mlx_kd::kernels
