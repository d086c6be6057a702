#include "mlx_kd/devices/cuda/cuda_device.h"

#include <mutex>
#include <optional>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/devices/cuda/call/cuda_program.h"
#include "mlx_kd/devices/cuda/call/native_module.h"
#include "mlx_kd/devices/cuda/call/stage_program.h"
#include "mlx_kd/devices/cuda/compile/cuda_compiler.h"
#include "mlx_kd/devices/cuda/compile/cuda_source.h"
#include "mlx_kd/devices/cuda/cuda_accelerator.h"
#include "mlx_kd/devices/cuda/driver/gpu.h"

namespace mlx_kd::devices::cuda {
namespace {

class CudaDevice final : public Device {
 public:
  CudaDevice() : id_(make_cuda_id()), accelerator_(make_accelerator()) {}

  const spec::DeviceId& id() const override { return id_; }
  bool lacks(spec::Dtype type) const override { return type == spec::Dtype::float64; }
  // The first is that of default kernels. Those in CUDA C++ need the module on MLX's arrays.
  std::vector<std::string> languages() const override {
    if (find_native()) return {"cuda", "metal"};
    return {"metal", "cuda"};
  }
  const Accelerator* accelerator() const override { return accelerator_.get(); }

  Artifact compile(const spec::Candidate& candidate, double timeout_s) const override {
    return compiler().compile(candidate, timeout_s);
  }

  std::shared_ptr<devices::Program> load(const Artifact& artifact,
                                         const spec::Candidate& candidate) const override {
    use_gpu();
    if (candidate.language == "cuda") {
      const auto options = source_options(candidate, gpu().sm);
      check_object(artifact, source_key(candidate, options), candidate);
      return std::make_shared<StageProgram>(base::read_file(artifact.path, "devices"), candidate,
                                            compile_alone(candidate));
    }
    const CandidateText text = candidate_text(candidate, gpu().sm);
    check_object(artifact, text.cuda.key, candidate);
    return std::make_shared<CudaProgram>(base::read_file(artifact.path, "devices"), text,
                                         candidate);
  }

 private:
  CompileAlone compile_alone(const spec::Candidate& candidate) const {
    if (!has_kernels_alone(candidate)) return {};
    return [candidate, compiler = compiler()](const std::string& func_name) {
      const Artifact made = compiler.compile_alone(candidate, func_name);
      if (!made.ok) base::misuse("devices", made.error);
      return base::read_file(made.path, "devices");
    };
  }

  void check_object(const Artifact& artifact, const std::string& key,
                    const spec::Candidate& candidate) const {
    if (!artifact.ok || artifact.path.parent_path().filename() != key ||
        !compiler().cache().holds(artifact.path))
      base::fail("devices", "'" + artifact.path.string() + "' is not what was compiled for '" +
                                candidate.op_name +
                                "': it is not loaded; compile the kernel again");
  }
  const CudaCompiler& compiler() const {
    const std::lock_guard lock(mutex_);
    if (!compiler_) compiler_.emplace(gpu().sm, cpu::ObjectCache::from_environment());
    return *compiler_;
  }

  spec::DeviceId id_;
  std::unique_ptr<Accelerator> accelerator_;
  mutable std::mutex mutex_;
  mutable std::optional<CudaCompiler> compiler_;
};

}  // namespace

spec::DeviceId make_cuda_id() {
  spec::DeviceId id;
  id.kind = "cuda";
  id.arch = "sm_" + std::to_string(gpu().sm);
  id.name = gpu().name;
  id.target = {{"sm", gpu().sm}};
  id.traits.cores = 0;
  id.traits.l2_bytes = gpu().l2_bytes;
  return id;
}

std::shared_ptr<const Device> open_cuda_device() {
  return std::make_shared<CudaDevice>();
}

}  // namespace mlx_kd::devices::cuda
