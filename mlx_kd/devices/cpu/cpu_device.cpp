#include "mlx_kd/devices/cpu/cpu_device.h"

#include <mutex>
#include <optional>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/devices/cpu/cpu_program.h"
#include "mlx_kd/devices/host/compiler.h"
#include "mlx_kd/devices/host/cpu_info.h"
#include "mlx_kd/devices/host/object_cache.h"

namespace mlx_kd::devices::cpu {
namespace {

class CpuDevice final : public Device {
 public:
  CpuDevice() : id_(make_cpu_id()) {}

  const spec::DeviceId& id() const override { return id_; }
  std::vector<std::string> languages() const override { return {"cpp"}; }

  Artifact compile(const spec::Candidate& candidate, double timeout_s) const override {
    return compiler().compile(candidate, timeout_s);
  }

  std::shared_ptr<Program> load(const Artifact& artifact,
                                const spec::Candidate& candidate) const override {
    if (!artifact.ok || !ObjectCache::from_environment().holds(artifact.path))
      base::fail("devices", "'" + artifact.path.string() + "' is not what was compiled for '" +
                                candidate.op_name +
                                "': it is not loaded; compile the kernel again");
    return std::make_shared<CpuProgram>(std::make_shared<KernelCode>(artifact.path, candidate));
  }

  Artifact adopt(std::string_view object, const spec::Candidate& candidate) const override {
    const ObjectCache cache = ObjectCache::from_environment();
    const std::string key = base::sha256_hex(object);
    Artifact artifact;
    artifact.ok = artifact.cached = true;
    if (const auto found = cache.find(key)) {
      artifact.path = found->path;
      return artifact;
    }
    const Scratch scratch(cache.folder());
    base::write_file_atomically(scratch.object(), object, "devices");
    artifact.path =
        cache.publish(scratch, key, 0, {{"op", candidate.op_name}, {"compiler", "elsewhere"}}).path;
    return artifact;
  }

 private:
  const Compiler& compiler() const {
    std::lock_guard lock(mutex_);
    if (!compiler_) compiler_.emplace(find_toolchain(), ObjectCache::from_environment());
    return *compiler_;
  }

  spec::DeviceId id_;
  mutable std::mutex mutex_;
  mutable std::optional<Compiler> compiler_;
};

}  // namespace

std::shared_ptr<const Device> open_cpu_device() {
  return std::make_shared<CpuDevice>();
}

}  // namespace mlx_kd::devices::cpu
