// kd_arguments as kernels see it and as the host fills it are one layout.
#include "mlx_kd/kernels/common/kd_arguments.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>

#include "mlx_kd/devices/kernel_arguments.h"

namespace mlx_kd {
namespace {

using Host = devices::KernelArguments;

static_assert(sizeof(kd_arguments) == sizeof(Host));
static_assert(alignof(kd_arguments) == alignof(Host));
static_assert(offsetof(kd_arguments, inputs) == offsetof(Host, inputs));
static_assert(offsetof(kd_arguments, outputs) == offsetof(Host, outputs));
static_assert(offsetof(kd_arguments, scratch) == offsetof(Host, scratch));
static_assert(offsetof(kd_arguments, dims) == offsetof(Host, dims));
static_assert(offsetof(kd_arguments, scalars) == offsetof(Host, scalars));
static_assert(offsetof(kd_arguments, strides) == offsetof(Host, strides));
static_assert(offsetof(kd_arguments, stage) == offsetof(Host, stage));
static_assert(sizeof(kd_arguments::dims[0]) == sizeof(Host::dims[0]));
static_assert(sizeof(kd_arguments::strides[0]) == sizeof(Host::strides[0]));

TEST(KernelArguments, HaveTheStridesWhereTheHostPutsThem) {
  Host host = {};
  host.strides[spec::kMostInputs + spec::kMostOutputs - 1][devices::kStrideAxes - 1] = 7;
  kd_arguments seen;
  static_assert(sizeof seen == sizeof host);
  std::memcpy(&seen, &host, sizeof seen);
  EXPECT_EQ(seen.strides[23][3], 7);
}

}  // namespace
}  // namespace mlx_kd
