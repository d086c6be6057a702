// Tensor maps of a stage: what is refused, without a GPU; that tiles are copied by them, with one.
#include "mlx_kd/devices/cuda/driver/tensor_maps.h"

#include "tests/devices/cuda/cuda_kernels.h"
#include "tests/devices/cuda/refusals.h"

namespace mlx_kd::devices::cuda {
namespace {

using spec::TensorMap;

spec::Stage stage_with(const TensorMap& map) {
  spec::Stage stage{"kd_tiles", {}};
  stage.tensor_maps = {map};
  return stage;
}

TensorMap good_map() {
  return {TensorMap::Array::input, 0, 2, {100, 7}, 104, {64, 16}, 128};
}

std::string fault(const TensorMap& map, int sm = 90) {
  return refusal_of([&] { check_tensor_maps("copy", stage_with(map), sm); });
}

TEST(TensorMaps, AreRefusedWhereTheChipHasNone) {
  EXPECT_EQ(fault(good_map()), "");
  EXPECT_TRUE(has(fault(good_map(), 80), "'kd_tiles' of 'copy' has tensor maps: sm_80"));
  spec::Stage stage = stage_with(good_map());
  stage.tensor_maps.resize(5, good_map());
  EXPECT_TRUE(has(refusal_of([&] { check_tensor_maps("copy", stage, 90); }), "5 tensor maps"));
}

TEST(TensorMaps, AreRefusedWithSizesThatTheChipDoesNotTake) {
  TensorMap map = good_map();
  map.pitch = 100;  // 200 bytes
  EXPECT_TRUE(has(fault(map), "rows that are 200 bytes apart"));
  map = good_map();
  map.pitch = 96;
  EXPECT_TRUE(has(fault(map), "holds a row"));
  map = good_map();
  map.box = {64, 257};
  EXPECT_TRUE(has(fault(map), "a tile of 64 x 257"));
  map = good_map();
  map.box = {128, 16};
  EXPECT_TRUE(has(fault(map), "rows of a tile of 256 bytes"));
  map = good_map();
  map.swizzle = 16;
  EXPECT_TRUE(has(fault(map), "a swizzle of 16 bytes"));
  map = good_map();
  map.element_bytes = 3;
  EXPECT_TRUE(has(fault(map), "elements of 3 bytes"));
  map = good_map();
  map.size = {0, 7};
  EXPECT_TRUE(has(fault(map), "a matrix of 0 x 7"));
}

}  // namespace
}  // namespace mlx_kd::devices::cuda
