#include "mlx_kd/runtime/call/metal_kernel.h"

#include "mlx_kd/devices/metal_text/metal_kernel.h"
#include "mlx_kd/devices/simt/checks/watch.h"

namespace mlx_kd::runtime {

namespace mx = mlx::core;
namespace simt = devices::simt;

namespace {

simt::Watch watch_of(const KernelChecks& checks) {
  simt::Watch watch = simt::parse_watch("", checks.order);
  watch.races = checks.races;
  watch.memory = checks.memory;
  watch.seed = checks.seed;
  watch.budget_s = checks.budget_s;
  watch.print = checks.print;
  return watch;
}

}  // namespace

KernelChecks parse_kernel_checks(const std::string& checks) {
  const simt::Watch watch = simt::parse_watch(checks, "forward");
  KernelChecks parsed;
  parsed.races = watch.races;
  parsed.memory = watch.memory;
  return parsed;
}

void check_metal_kernels(const KernelChecks& checks) {
  simt::set_watch(watch_of(checks));
}

std::vector<KernelReport> take_kernel_reports() {
  std::vector<KernelReport> reports;
  for (simt::WatchReport& one : simt::take_reports())
    reports.push_back({std::move(one.kernel), one.grid, one.threadgroup, one.groups, one.watched,
                       std::move(one.findings), std::move(one.note)});
  return reports;
}

mx::fast::CustomKernelFunction metal_kernel(const std::string& name,
                                            const std::vector<std::string>& input_names,
                                            const std::vector<std::string>& output_names,
                                            const std::string& source, const std::string& header,
                                            bool ensure_row_contiguous, bool atomic_outputs,
                                            const mx::CompileOptions& compile_options,
                                            const std::optional<KernelChecks>& checks) {
  std::optional<simt::Watch> watch;
  if (checks) watch = watch_of(*checks);
  return [watch,
          kernel = devices::MetalKernel({name, input_names, output_names, source, header,
                                         ensure_row_contiguous, atomic_outputs, compile_options})](
             const std::vector<mx::array>& inputs, const std::vector<mx::Shape>& output_shapes,
             const std::vector<mx::Dtype>& output_dtypes, std::tuple<int, int, int> grid,
             std::tuple<int, int, int> threadgroup,
             std::vector<std::pair<std::string, mx::fast::TemplateArg>> templates,
             std::optional<float> init_value, bool verbose, mx::StreamOrDevice stream) {
    const simt::WatchScope scope(watch);
    return kernel({inputs, output_shapes, output_dtypes, grid, threadgroup, std::move(templates),
                   init_value, verbose, stream});
  };
}

}  // namespace mlx_kd::runtime
