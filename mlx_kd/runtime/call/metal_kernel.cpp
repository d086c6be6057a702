#include "mlx_kd/runtime/call/metal_kernel.h"

#include "mlx_kd/devices/metal_text/metal_kernel.h"

namespace mlx_kd::runtime {

namespace mx = mlx::core;

mx::fast::CustomKernelFunction metal_kernel(const std::string& name,
                                            const std::vector<std::string>& input_names,
                                            const std::vector<std::string>& output_names,
                                            const std::string& source, const std::string& header,
                                            bool ensure_row_contiguous, bool atomic_outputs,
                                            const mx::CompileOptions& compile_options) {
  return [kernel = devices::MetalKernel({name, input_names, output_names, source, header,
                                         ensure_row_contiguous, atomic_outputs, compile_options})](
             const std::vector<mx::array>& inputs, const std::vector<mx::Shape>& output_shapes,
             const std::vector<mx::Dtype>& output_dtypes, std::tuple<int, int, int> grid,
             std::tuple<int, int, int> threadgroup,
             std::vector<std::pair<std::string, mx::fast::TemplateArg>> templates,
             std::optional<float> init_value, bool verbose, mx::StreamOrDevice stream) {
    return kernel({inputs, output_shapes, output_dtypes, grid, threadgroup, std::move(templates),
                   init_value, verbose, stream});
  };
}

}  // namespace mlx_kd::runtime
