// Bodies of the first version that ask for the shapes of their arrays, run on the executor.
#include <cmath>

#include "mlx_kd/runtime/pins/pin_devices.h"
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

// Every element: 1000 axes + 100 rows + D, by what the body is told of `inp`.
constexpr const char* kTellsShape = R"(
  uint row = threadgroup_position_in_grid.x, lane = thread_position_in_threadgroup.x;
  int rows = inp_shape[0], d = inp_shape[1];
  if (inp_strides[0] != d || inp_strides[1] != 1) return;
  for (int j = lane; j < d; j += 32) out[row * d + j] = (T)(1000 * inp_ndim + 100 * rows + d);
)";

// Every element: 1000 axes + the first of them.
constexpr const char* kTellsFlatShape = R"(
  uint i = thread_position_in_grid.x;
  if (i < (uint)gate_shape[0]) out[i] = (T)(1000 * gate_ndim + gate_shape[0]);
)";

class BodyShapes : public Pinned {
 protected:
  static const devices::Device& simt() { return *opened(); }

  // As the first version writes one: the specs are those of its suite's first size.
  static packs::Entry entry(const std::string& op, const spec::Dims& dims, const std::string& body,
                            const std::string& launch_kind) {
    packs::Entry made = marking_entry(op, dims, 1);
    made.language = "metal";
    made.source = body;
    made.key.device_arch = simt().id().arch;
    made.key.device_name = simt().id().name;
    made.target = base::Json::object();
    made.knobs = made.runtime_inputs = {{"eps", 1e-6}};
    made.launch_params = {{"launch_kind", launch_kind}, {"threadgroup_x", 32}};
    const auto port = [](const char* name, const base::Json& shape) -> base::Json {
      return {{"name", name}, {"dtype", "float32"}, {"shape", shape}, {"strides", "contiguous"}};
    };
    made.outputs_spec = base::Json::array({port("out", {128, 64})});
    if (op == "swiglu")
      made.inputs_spec = {port("gate", {128, 64}), port("up", {128, 64})};
    else
      made.inputs_spec = {port("inp", {128, 64}), port("weight", {64})};
    return made;
  }

  static const std::shared_ptr<const devices::Device>& opened() {
    static const auto device = devices::open_device("simt");
    return device;
  }

  // What every element of rmsnorm is; -1 where they differ.
  static float norm(const mx::Shape& shape) {
    const mx::array y = rmsnorm(all_ones(shape), all_ones({shape.back()}));
    return mx::all(mx::equal(y, mx::array(first(y)))).item<bool>() ? std::round(first(y)) : -1;
  }

 private:
  AddedEngine engine_{{opened(), mx::Device::cpu}};
};

TEST_F(BodyShapes, AreThoseOfTheSizeThatIsCalled) {
  pin({entry("rmsnorm", {{"rows", 2}, {"D", 8}}, kTellsShape, "rmsnorm_rows_tg"),
       entry("rmsnorm", {{"rows", 3}, {"D", 16}}, kTellsShape, "rmsnorm_rows_tg")});
  EXPECT_EQ(norm({2, 8}), 2208) << to_json(stats());
  EXPECT_EQ(norm({3, 16}), 2316);
  EXPECT_EQ(stats().hits, 2u);
}

TEST_F(BodyShapes, HoldRowsInOneAxisHoweverTheCallShapesThem) {
  pin({entry("rmsnorm", {{"rows", 6}, {"D", 8}}, kTellsShape, "rmsnorm_rows_tg")});
  EXPECT_EQ(norm({2, 3, 8}), 2608);
  EXPECT_EQ(norm({1, 6, 8}), 2608);
}

TEST_F(BodyShapes, FollowTheRowsOfARange) {
  auto ranged = entry("rmsnorm", {{"rows", 4}, {"D", 8}}, kTellsShape, "rmsnorm_rows_tg");
  ranged.rows_range = {2, 6, {2, 4, 6}};
  pin({ranged});
  EXPECT_EQ(norm({4, 8}), 2408);
  EXPECT_EQ(norm({6, 8}), 2608);
  EXPECT_EQ(norm({7, 8}), 1);
  EXPECT_EQ(explain("rmsnorm", {all_ones({6, 8}), all_ones({8})}).state, "ready");
  EXPECT_EQ(explain("rmsnorm", {all_ones({3, 8}), all_ones({8})}).state, "unused");
}

TEST_F(BodyShapes, DoNotChangeTheIdThatAMessageNames) {
  const auto broken = entry("rmsnorm", {{"rows", 5}, {"D", 8}}, "int n = inp_shape[0]; out[n] = ;",
                            "rmsnorm_rows_tg");
  pin({broken});
  testing::internal::CaptureStderr();
  EXPECT_EQ(norm({5, 8}), 1);
  expect_part(testing::internal::GetCapturedStderr(), packs::candidate_as_stored(broken).id());
}

TEST_F(BodyShapes, AreFlatWhereTheFirstVersionFlattens) {
  pin({entry("swiglu", {{"rows", 2}, {"D", 8}, {"N", 16}}, kTellsFlatShape, "swiglu_flat")});
  const mx::array y = swiglu(all_ones({2, 8}), all_ones({2, 8}));
  EXPECT_EQ(first(y), 1016) << to_json(stats());
  EXPECT_EQ(y.shape(), (mx::Shape{2, 8}));
}

TEST_F(BodyShapes, ThatAreNotAskedForLeaveOneKernelToAllSizes) {
  const std::string body =
      "uint i = thread_position_in_grid.x; if (i % 32 < 8) out[i / 32 * 8 + i % 32] = (T)5;";
  pin({entry("rmsnorm", {{"rows", 2}, {"D", 8}}, body, "rmsnorm_rows_tg"),
       entry("rmsnorm", {{"rows", 4}, {"D", 8}}, body, "rmsnorm_rows_tg")});
  const uint64_t before = stats().compiled + stats().loaded;
  EXPECT_EQ(norm({2, 8}), 5);
  EXPECT_EQ(norm({4, 8}), 5);
  EXPECT_EQ(stats().compiled + stats().loaded, before + 1);
}

}  // namespace
}  // namespace mlx_kd::runtime
