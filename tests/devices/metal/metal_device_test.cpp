// What can be said of the device metal without an Apple GPU: what it hands to metal_kernel.
#include "mlx_kd/devices/metal/metal_device.h"

#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"

namespace mlx_kd::devices::metal {
namespace {

spec::Candidate scale_candidate() {
  spec::Candidate candidate;
  candidate.op_name = "scale";
  candidate.language = "metal";
  candidate.dtype = spec::Dtype::float16;
  candidate.func_name = "scale";
  candidate.knobs.set("TIMES", 3);
  candidate.launch_params = {{"launch_kind", "metal_flat"}};
  candidate.inputs_spec = {{{"name", "x"}, {"dtype", "float16"}, {"shape", {4, 16}}}};
  candidate.outputs_spec = {{{"name", "y"}, {"dtype", "float16"}, {"shape", {4, 16}}}};
  candidate.source = R"(#include <metal_stdlib>
using namespace metal;
typedef half T;
kernel void scale(const device T* x [[buffer(0)]], device T* y [[buffer(1)]],
                  constant float& eps [[buffer(2)]], constant int& D [[buffer(3)]],
                  uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  uint i = thread_position_in_grid.x;
  y[i] = T(float(x[i]) * TIMES + eps * D);
}
)";
  return candidate;
}

TEST(MetalDevice, IsListedAndSaysWhatToDoWithoutIt) {
  for (const DeviceReport& report : list_devices()) {
    if (report.kind != "metal") continue;
    if (report.available) GTEST_SKIP() << "there is an Apple GPU";
    EXPECT_NE(report.detail.find("--prove-on simt --times null"), std::string::npos);
    EXPECT_THROW(open_device("metal"), base::Error);
    return;
  }
  FAIL() << "no device metal";
}

Call scale_call(int64_t d) {
  Call call{{{"rows", 4}, {"D", d}}, {0.5}, {{"scale"}}};
  call.scalar_names = {"eps"};
  return call;
}

TEST(MetalDevice, HandsOverABodyWithTheNumbersOfTheCall) {
  const Call call = scale_call(16);
  const MetalCallText text = call_text(scale_candidate(), call);
  EXPECT_EQ(text.body,
            "constexpr float eps = 0.5f;\nconstexpr int D = 16;\n"
            "uint i = thread_position_in_grid.x;\ny[i] = T(float(x[i]) * 3 + eps * D);\n");
  EXPECT_EQ(text.name.rfind("scale_", 0), 0u);
  const Call other = scale_call(32);
  EXPECT_NE(call_text(scale_candidate(), other).name, text.name);
}

TEST(MetalDevice, TakesBodiesOfPacksAsTheyAre) {
  spec::Candidate candidate = scale_candidate();
  candidate.launch_params = {{"launch_kind", "grid"}};
  candidate.source = "y[0] = kk_silu(x[0]);";
  const MetalCallText text = call_text(candidate, {});
  EXPECT_EQ(text.body, candidate.source);
  EXPECT_EQ(text.name, "scale");
  EXPECT_NE(text.header.find("kk_silu"), std::string::npos);
}

TEST(MetalDevice, RefusesAKernelThatIsNoBody) {
  spec::Candidate candidate = scale_candidate();
  candidate.source.replace(candidate.source.find("kernel void"), 11,
                           "constant float third = 0.33f;\nkernel void");
  candidate.source.replace(candidate.source.find("* TIMES"), 7, "* third");
  EXPECT_THROW(call_text(candidate, {{{"rows", 4}, {"D", 16}}, {0.5}, {}}), base::Error);
}

}  // namespace
}  // namespace mlx_kd::devices::metal
