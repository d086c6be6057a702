#include "mlx_kd/devices/metal/metal_device.h"

#include <cstring>

#include "mlx/backend/metal/metal.h"
#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/devices/host/check_arrays.h"
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/devices/metal_text/metal_kernel.h"
#include "mlx_kd/devices/metal_text/metal_source.h"
#include "mlx_kd/msl/bodies/kernel_body.h"
#include "mlx_kd/msl/parse/parser.h"
#include "mlx_kd/msl/rules/rules.h"
#include "mlx_kd/msl/translate/translate.h"

namespace mlx_kd::devices::metal {
namespace {

namespace mx = mlx::core;

using Holds = MetalArgument::Holds;

// What `number` holds, as Metal writes it.
std::string text_of(const MetalArgument& argument, const Number& number) {
  if (argument.type == "float") {
    float value;
    std::memcpy(&value, number.data(), sizeof value);
    return msl::float_text(value);
  }
  int64_t value = 0;
  std::memcpy(&value, number.data(), argument.type.find("long") == 0 ? 8 : 4);
  return std::to_string(value);
}

msl::Unit parse(const spec::Candidate& candidate) {
  const MetalText text = metal_text(candidate);
  return msl::parse(text.file, text.text, text.options);
}

std::vector<std::string> names_of(const base::Json& ports) {
  std::vector<std::string> names;
  for (const base::Json& port : ports) names.push_back(port.at("name").get<std::string>());
  return names;
}

std::tuple<int, int, int> sizes(const std::array<int64_t, 3>& given) {
  return {static_cast<int>(given[0]), static_cast<int>(given[1]), static_cast<int>(given[2])};
}

class MetalProgram final : public Program {
 public:
  explicit MetalProgram(spec::Candidate candidate) : candidate_(std::move(candidate)) {}

  // The GPU shares the host's memory: inputs that start on a page are not copied.
  void launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
              const Call& call) const override {
    std::vector<mx::array> arrays;
    for (size_t i = 0; i < inputs.size(); ++i)
      arrays.emplace_back(const_cast<void*>(inputs[i]), mlx_shape(call.inputs[i].shape),
                          mlx_dtype(call.inputs[i].type), [](void*) {});
    std::vector<spec::Shape> shapes;
    for (const spec::ArraySpec& output : call.outputs) shapes.push_back(output.shape);
    auto results = this->call(arrays, shapes, call);
    mx::eval(results);
    for (size_t i = 0; i < outputs.size(); ++i)
      std::memcpy(outputs[i], results[i].data<void>(), results[i].nbytes());
  }

  std::vector<mx::array> call(const std::vector<mx::array>& inputs,
                              const std::vector<spec::Shape>& output_shapes,
                              const Call& call) const override {
    const MetalCallText text = call_text(candidate_, call);
    const MetalKernel kernel({text.name, names_of(candidate_.inputs_spec),
                              names_of(candidate_.outputs_spec), text.body, text.header});
    return kernel({as_specified(inputs),
                   mlx_shapes(output_shapes),
                   output_types(call),
                   sizes(call.launch().grid),
                   sizes(call.launch().group),
                   {{"T", mlx_dtype(candidate_.dtype)}},
                   std::nullopt,
                   false,
                   mx::Device(mx::Device::gpu)});
  }

 private:
  static mx::Shape shape_of(const base::Json& port) {
    return mlx_shape(port.at("shape").get<spec::Shape>());
  }

  // MLX tells a body the shapes that arrays have; it was written for those of inputs_spec.
  std::vector<mx::array> as_specified(const std::vector<mx::array>& inputs) const {
    if (!reads_shapes_) return inputs;
    std::vector<mx::array> result;
    for (size_t i = 0; i < inputs.size(); ++i)
      result.push_back(
          mx::reshape(inputs[i], shape_of(candidate_.inputs_spec[i]), mx::Device(mx::Device::gpu)));
    return result;
  }

  spec::Candidate candidate_;
  bool reads_shapes_ = reads_shapes(candidate_);
};

std::string info(const std::string& key) {
  const auto& all = mx::device_info(mx::Device(mx::Device::gpu));
  const auto found = all.find(key);
  const std::string* text = found == all.end() ? nullptr : std::get_if<std::string>(&found->second);
  return text ? *text : "unknown";
}

class MetalDevice final : public Device {
 public:
  MetalDevice() {
    id_.kind = "metal";
    id_.arch = info("architecture");
    id_.name = info("device_name");
    id_.traits.cores = 0;
    id_.target = base::Json::object();
  }

  const spec::DeviceId& id() const override { return id_; }
  std::vector<std::string> languages() const override { return {"metal"}; }

  // Metal compiles at the first call; what our front end refuses is refused here.
  Artifact compile(const spec::Candidate& candidate, double) const override {
    Artifact artifact;
    try {
      msl::require_rules(parse(candidate));
      artifact.ok = true;
    } catch (const base::Error& error) {
      if (error.exit_code() != 2) throw;
      artifact.error = error.what();
    }
    return artifact;
  }

  std::shared_ptr<Program> load(const Artifact&, const spec::Candidate& candidate) const override {
    return std::make_shared<MetalProgram>(candidate);
  }

 private:
  spec::DeviceId id_;
};

}  // namespace

MetalCallText call_text(const spec::Candidate& candidate, const Call& call) {
  if (is_body(candidate))
    return {candidate.func_name, std::string(msl::first_version_helpers()), candidate.source};
  const msl::Unit unit = parse(candidate);
  std::map<std::string, std::string> numbers;
  for (const msl::Kernel& kernel : msl::translate(unit, msl::Target::cpp, {}).kernels) {
    if (kernel.name != candidate.func_name) continue;
    const auto arguments = metal_arguments(kernel, *unit.sources, candidate);
    const auto values = metal_numbers(arguments, call);
    size_t number = 0;
    for (const MetalArgument& one : arguments)
      if (one.holds == Holds::number) numbers[one.name] = text_of(one, values[number++]);
  }
  const std::string body = msl::body_of(unit, candidate.func_name, numbers);
  return {candidate.func_name + "_" + base::sha256_hex(body).substr(0, 8), "", body};
}

std::shared_ptr<const Device> open_metal_device() {
  if (!mx::metal::is_available()) base::fail("devices", "MLX has no Metal here");
  return std::make_shared<MetalDevice>();
}

}  // namespace mlx_kd::devices::metal
