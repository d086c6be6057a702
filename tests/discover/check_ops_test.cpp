// What `kd ops --check` finds: fills that leave elements unset, signatures that fail at edge sizes.
#include "mlx_kd/discover/check_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::discover {
namespace {

// The faults of an op that has been changed; each at most once by its first words.
void expect_fault_of(const spec::Op& op, const std::string& wanted) {
  const std::vector<std::string> faults = check_op(op);
  EXPECT_TRUE(std::any_of(
      faults.begin(), faults.end(),
      [&](const std::string& fault) { return fault.find(wanted) != std::string::npos; }))
      << wanted << "\nis not in\n"
      << testing::PrintToString(faults);
}

TEST(CheckOps, FindsNothingInTheTable) {
  for (const spec::Op& op : kernels::all_ops())
    EXPECT_EQ(check_op(op), std::vector<std::string>{}) << op.name;
}

TEST(CheckOps, NamesWhatAFillLeavesUnset) {
  spec::Op op = kernels::find_op("kv_append");
  const auto whole = op.fill;
  op.fill = [whole](const spec::FillRequest& request) {
    spec::FillRequest other = request;
    std::vector<std::byte> elsewhere(1 << 22);
    other.inputs[2] = elsewhere.data();
    whole(other);
  };
  expect_fault_of(op, "element 0 of input '" + op.inputs[2].name + "' is not written");
}

TEST(CheckOps, NamesSignaturesThatReadAnotherSizeOrThrow) {
  spec::Op op = kernels::find_op("kv_append");
  const auto right = op.signature;
  op.signature = [right](auto inputs, auto scalars, auto dims) {
    right(inputs, scalars, dims);
    ++dims[0];
  };
  expect_fault_of(op, "it reads ");
  op.signature = [](auto, auto, auto) { throw std::invalid_argument("[kv_append] no"); };
  expect_fault_of(op, "[kv_append] no");
}

TEST(CheckOps, AsksForEdgeSizes) {
  spec::Op op = kernels::find_op("swiglu");
  op.edge_sizes.clear();
  expect_fault_of(op, "edge_sizes: there is none");
}

}  // namespace
}  // namespace mlx_kd::discover
