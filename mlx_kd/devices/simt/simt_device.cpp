#include "mlx_kd/devices/simt/simt_device.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/cpu_info.h"
#include "mlx_kd/devices/host/object_cache.h"
#include "mlx_kd/devices/simt/checks/simt_check.h"
#include "mlx_kd/devices/simt/program/simt_compiler.h"
#include "mlx_kd/devices/simt/program/simt_program.h"
#include "mlx_kd/devices/watched_compiler.h"

namespace mlx_kd::devices::simt {
namespace {

spec::DeviceId make_id() {
  spec::DeviceId id = cpu::make_cpu_id();
  id.kind = id.arch = "simt";
  id.target = {{"cores", id.traits.cores}};
  return id;
}

// MLX's arrays on a CPU start at a multiple of 8 bytes. (Bodies get aligned copies.)
MetalText text_of(const spec::Candidate& candidate) {
  MetalText result = metal_text(candidate);
  if (!is_body(candidate)) result.options.defines["KD_ALIGNED"] = "0";
  return result;
}

class SimtDevice final : public Device, public WatchedCompiler {
 public:
  SimtDevice() : id_(make_id()) {}

  const spec::DeviceId& id() const override { return id_; }
  bool lacks(spec::Dtype type) const override { return type == spec::Dtype::float64; }
  std::vector<std::string> languages() const override { return {"metal"}; }

  Artifact compile(const spec::Candidate& candidate, double timeout_s) const override {
    return compile_text(text_of(candidate), candidate.op_name, timeout_s);
  }

  std::shared_ptr<Program> load(const Artifact& artifact,
                                const spec::Candidate& candidate) const override {
    if (!artifact.ok || !cpu::ObjectCache::from_environment().holds(artifact.path))
      base::fail("devices", "'" + artifact.path.string() + "' is not what was compiled for '" +
                                candidate.op_name +
                                "': it is not loaded; compile the kernel again");
    return std::make_shared<SimtProgram>(std::make_shared<SimtCode>(
        Module::load(artifact.path.string()), translate_text(text_of(candidate), msl::Target::cpp),
        candidate));
  }

  void compile_watched(const spec::Candidate& candidate) const override {
    simt::compile_watched(text_of(candidate), candidate.op_name);
  }
  bool checks() const override { return true; }
  std::vector<std::string> check(const spec::Candidate& candidate,
                                 const std::vector<std::span<const std::byte>>& inputs,
                                 const std::vector<size_t>& output_bytes,
                                 const Call& call) const override {
    return find_faults(text_of(candidate), candidate, inputs, output_bytes, call);
  }

 private:
  spec::DeviceId id_;
};

}  // namespace

std::shared_ptr<const Device> open_simt_device() {
  return std::make_shared<SimtDevice>();
}

}  // namespace mlx_kd::devices::simt
