#include "mlx_kd/devices/simt/program/body_code.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/environment.h"
#include "mlx_kd/devices/host/once.h"
#include "mlx_kd/devices/simt/program/simt_compiler.h"

namespace mlx_kd::devices::simt {
namespace {

constexpr double kCompileLimit_s = 120;

using Code = std::shared_ptr<const BodyCode>;

// For kernels that never end.
double run_limit_s() {
  static const double limit = [] {
    const std::string text = env_text("MLX_KD_SIMT_LIMIT_S", "300");
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (end == text.c_str() || *end || !(value > 0))
      base::misuse("simt", "MLX_KD_SIMT_LIMIT_S is '" + text + "': give seconds above 0");
    return value;
  }();
  return limit;
}

// Messages of lower rooms, without the room.
std::string bare(const std::string& message) {
  const size_t end = message.rfind("[", 0) == 0 ? message.find("] ") : message.npos;
  return end == message.npos ? message : message.substr(end + 2);
}

Code build(const MetalBody& body) {
  const Artifact artifact = compile_text(body.text, "metal_kernel", kCompileLimit_s);
  if (!artifact.ok) base::misuse("metal_kernel", "'" + body.kernel + "': " + bare(artifact.error));
  const TranslatedText text = translate_text(body.text, msl::Target::cpp);
  const msl::Kernel& kernel = text.kernel(body.kernel);
  return std::make_shared<BodyCode>(Module::load(artifact.path.string()), kernel,
                                    text.unit.sources->describe(kernel.at));
}

}  // namespace

Code body_code(const MetalBody& body) {
  // Arrays may run a kernel after every static object is gone.
  static auto& known = *new OncePerKey<BodyCode>;
  return known.get(all_of(body.text), [&] { return build(body); });
}

bool BodyCode::run(const std::vector<void*>& buffers, Size3 grid, Size3 group, ThreadOrder order,
                   uint64_t seed) const {
  std::string fault;
  try {
    LaunchOptions options;
    options.timeout_s = run_limit_s();
    options.order = order;
    options.seed = seed;
    const LaunchReport report = launch(entry_, buffers, {}, grid, group, options);
    fault = report.timed_out ? "it did not end in time (MLX_KD_SIMT_LIMIT_S)" : report.fault;
  } catch (const std::exception& error) {
    fault = bare(error.what());
  }
  if (fault.empty()) return true;
  const std::string message = place_ + ": the kernel ended early: " + fault;
  std::fprintf(stderr, "[metal_kernel] %s\n", message.c_str());
  std::lock_guard lock(mutex_);
  fault_ = message;
  return false;
}

void BodyCode::require_no_fault() const {
  std::lock_guard lock(mutex_);
  if (fault_.empty()) return;
  const std::string message = std::exchange(fault_, "");
  base::fail("metal_kernel", message);
}

}  // namespace mlx_kd::devices::simt
