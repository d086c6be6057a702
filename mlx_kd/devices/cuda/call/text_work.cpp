#include "mlx_kd/devices/cuda/call/text_work.h"

#include <algorithm>

namespace mlx_kd::devices::cuda {

void TextWork::launch(const NativeMemory& memory, const Add& add) const {
  std::array<AxisStrides, spec::kMostInputs> strides;
  for (size_t i = 0; i < strides_.size(); ++i) {
    strides[i] = strides_[i];
    const auto& own = memory.in[i]->strides();
    if (kernel_.layouts[i] == NativeKernel::Layout::last_axis && own.size() == kernel_.axes[i])
      std::copy(own.begin(), own.end(), strides[i].begin());
  }
  const TextMemory from = {memory.inputs.data(), memory.outputs.data(), memory.scratch.data(),
                           strides.data()};
  for (const TextStage& stage : stages_) {
    ParameterList parameters(stage, from);
    add(stage.node, parameters.data());
  }
}

}  // namespace mlx_kd::devices::cuda
