#include "mlx_kd/devices/metal/metal_device.h"

#include "mlx/backend/metal/metal.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/metal/metal_program.h"

namespace mlx_kd::devices::metal {
namespace {

namespace mx = mlx::core;

std::string info(const std::string& key) {
  const auto& all = mx::device_info(mx::Device(mx::Device::gpu));
  const auto found = all.find(key);
  const std::string* text = found == all.end() ? nullptr : std::get_if<std::string>(&found->second);
  return text ? *text : "unknown";
}

class MetalDevice final : public Device {
 public:
  explicit MetalDevice(MetalHost host) : host_(std::make_shared<const MetalHost>(std::move(host))) {
    id_.kind = "metal";
    id_.arch = host_->arch;
    id_.name = host_->name;
    id_.traits.cores = 0;
    id_.target = base::Json::object();
  }

  const spec::DeviceId& id() const override { return id_; }
  bool lacks(spec::Dtype type) const override { return type == spec::Dtype::float64; }
  std::vector<std::string> languages() const override { return {"metal"}; }

  // Metal compiles at the first call; what our front end refuses is refused here.
  Artifact compile(const spec::Candidate& candidate, double) const override {
    Artifact artifact;
    try {
      translate_text(metal_text(candidate), msl::Target::cpp);
      artifact.ok = true;
    } catch (const base::Error& error) {
      if (error.exit_code() != 2) throw;
      artifact.error = error.what();
    }
    return artifact;
  }

  std::shared_ptr<Program> load(const Artifact&, const spec::Candidate& candidate) const override {
    if (is_body(candidate)) return std::make_shared<BodyProgram>(host_, candidate);
    return std::make_shared<MetalProgram>(host_, candidate);
  }

 private:
  std::shared_ptr<const MetalHost> host_;
  spec::DeviceId id_;
};

}  // namespace

std::shared_ptr<const Device> make_metal_device(MetalHost host) {
  return std::make_shared<MetalDevice>(std::move(host));
}

std::shared_ptr<const Device> open_metal_device() {
  if (!mx::metal::is_available()) base::fail("devices", "MLX has no Metal here");
  return make_metal_device({mx::fast::metal_kernel,
                            [] { return mx::default_stream(mx::Device::gpu); },
                            info("architecture"), info("device_name")});
}

}  // namespace mlx_kd::devices::metal
