// Chains of tiny stages for bench/cuda_native.cpp: a kernel that adds 1, by kd_arguments and by
// three parameters.
#pragma once

#include <mlx/array.h>

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cuda/call/native_module.h"
#include "mlx_kd/devices/cuda/call/stage_program.h"
#include "mlx_kd/devices/device.h"

namespace mlx_kd::bench {

namespace mx = mlx::core;
namespace cuda = devices::cuda;

constexpr int64_t kElements = 4096;  // of decoding

using Step = std::function<mx::array(const mx::array&)>;

// The same stages by three parameters in the place of kd_arguments: what its size costs.
class PointerSteps final : public cuda::NativeWork {
 public:
  PointerSteps(const std::string& cubin, int stages) : stages_(stages) {
    const auto code = std::make_shared<cuda::Code>(cubin);
    node_ = {
        code->function("step_by_pointers"), {kElements / 256, 1, 1}, {256, 1, 1}, {1, 1, 1}, 0};
    cuda::keep_loaded(code);
  }
  const cuda::NativeKernel& kernel() const override { return kernel_; }
  std::span<const double> params() const override { return {}; }
  bool same(const cuda::NativeWork& other) const override { return this == &other; }
  void launch(const cuda::NativeMemory& memory, const Add& add) const override {
    const void* from = memory.inputs[0];
    void* to = memory.outputs[0];
    int count = kElements;
    void* parameters[] = {&from, &to, &count};
    for (int i = 0; i < stages_; ++i) {
      add(node_, parameters);
      from = to;
    }
  }

 private:
  int stages_;
  cuda::NativeNode node_ = {};
  cuda::NativeKernel kernel_ = {"steps", {cuda::NativeKernel::Layout::row_major}, {-1}, {}};
};

// Adds 1 to an array in every stage.
class Steps {
 public:
  explicit Steps(int64_t stages) : cubin_(compile()) {
    cuda::use_gpu();
    program_ = std::make_shared<cuda::StageProgram>(cubin_, candidate());
    call_.dims = {{"N", kElements}};
    call_.inputs = call_.outputs = {{{kElements}}};
    for (int64_t i = 0; i < stages; ++i)
      call_.stages.push_back({"step", {{kElements, 1, 1}, {256, 1, 1}}, i});
  }
  mx::array operator()(const mx::array& x) const {
    return program_->add_to_graph({x}, {x.shape()}, call_,
                                  {mx::default_stream(mx::Device::gpu)})[0];
  }
  // By PointerSteps.
  Step by_pointers() const {
    const auto work = std::make_shared<PointerSteps>(cubin_, static_cast<int>(call_.stages.size()));
    return [work](const mx::array& x) {
      return cuda::native_call(*cuda::find_native(), {mx::default_stream(mx::Device::gpu)}, work,
                               {x}, {x.shape()}, {x.dtype()})[0];
    };
  }

 private:
  static spec::Candidate candidate() {
    spec::Candidate made;
    made.op_name = made.variant = "steps";
    made.language = "cuda";
    made.source = R"(struct kd_arguments {
  const void* inputs[KD_INPUTS]; void* outputs[KD_OUTPUTS]; void* scratch[4];
  long dims[KD_DIMS]; double scalars[KD_SCALARS]; long strides[KD_INPUTS + KD_OUTPUTS][4];
  long stage;
};
extern "C" __global__ void step_by_pointers(const float* x, float* y, int n) {
  const long i = blockIdx.x * 256l + threadIdx.x;
  if (i < n) y[i] = x[i] + 1;
}
extern "C" __global__ void step(const __grid_constant__ kd_arguments a) {
  const long i = blockIdx.x * 256l + threadIdx.x;
  const float* from = static_cast<const float*>(a.stage ? a.outputs[0] : a.inputs[0]);
  if (i < a.dims[KD_DIM_N]) static_cast<float*>(a.outputs[0])[i] = from[i] + 1;
}
)";
    made.func_name = "step";
    made.inputs_spec = {{{"name", "x"}, {"dtype", "float32"}}};
    made.outputs_spec = {{{"name", "y"}, {"dtype", "float32"}}};
    made.dim_names = {"N"};
    return made;
  }
  static std::string compile() {
    const cuda::Cubin made =
        cuda::compile_source(candidate(), cuda::source_options(candidate(), cuda::gpu().sm));
    if (made.bytes.empty()) base::fail("bench", made.error);
    return made.bytes;
  }

  std::string cubin_;
  std::shared_ptr<const cuda::StageProgram> program_;
  devices::Call call_;
};

}  // namespace mlx_kd::bench
