#include "mlx_kd/kernels/op_table.h"

#include "mlx_kd/base/error.h"

namespace mlx_kd::kernels {

namespace {

std::vector<spec::Op> checked(std::vector<spec::Op> ops) {
  std::string text;
  for (const spec::Op& op : ops)
    for (const std::string& fault : spec::faults_of(op)) text += "\n  " + op.name + ": " + fault;
  if (!text.empty())
    base::fail("kernels", "operators that the table cannot take; correct their op.cpp:" + text);
  return ops;
}

}  // namespace

const std::vector<spec::Op>& all_ops() {
  static const std::vector<spec::Op> ops = checked(make_all_ops());
  return ops;
}

const spec::Op& find_op(const std::string& name) {
  std::vector<std::string> known;
  for (const spec::Op& op : all_ops()) {
    if (op.name == name) return op;
    known.push_back(op.name);
  }
  base::misuse("kernels", "op '" + name + "' is not known: choose " + base::list_of(known));
}

const std::string& kernel_source(const std::string& path) {
  const auto found = kernel_sources().find(path);
  if (found == kernel_sources().end())
    base::fail("kernels", "there is no kernel source '" + path + "': check its name in op.cpp");
  return found->second;
}

}  // namespace mlx_kd::kernels
