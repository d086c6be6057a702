// Metal's accuracy on the executor, and of the CUDA translation on it.
#include "tests/devices/simt/accuracy.h"

#include <gtest/gtest.h>

#include "tests/devices/cuda/emulated_cuda.h"

namespace mlx_kd::devices::simt {
namespace {

class Accuracy : public testing::TestWithParam<AccuracyTable> {
 protected:
  Session session_{"accuracy.metal", accuracy_source(GetParam()), {}, {}};
};

TEST_P(Accuracy, OfTheExecutorIsMetals) {
  check_accuracy(GetParam(), [&](MslRequest& request) { session_.run(request); });
}

TEST_P(Accuracy, OfEmulatedCudaIsMetals) {
  const EmulatedCuda cuda(session_.unit(), {});
  ASSERT_TRUE(cuda.compiled());
  check_accuracy(GetParam(), [&](MslRequest& request) { cuda.run(request); });
}

std::string name_of(const testing::TestParamInfo<AccuracyTable>& one) {
  return one.param == AccuracyTable::precise ? "precise"
         : one.param == AccuracyTable::fast  ? "fast"
                                             : "half";
}

INSTANTIATE_TEST_SUITE_P(Simt, Accuracy,
                         testing::Values(AccuracyTable::precise, AccuracyTable::fast,
                                         AccuracyTable::half),
                         name_of);

}  // namespace
}  // namespace mlx_kd::devices::simt
