#include "mlx_kd/runtime/tuning/tuned.h"

#include <mlx/version.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/kernels/user_kernel.h"
#include "mlx_kd/packs/pack.h"
#include "mlx_kd/runtime/pins/kernel.h"
#include "mlx_kd/runtime/pins/launches.h"
#include "mlx_kd/runtime/pins/signature.h"
#include "mlx_kd/runtime/state/trust.h"
#include "mlx_kd/runtime/tuning/call_key.h"

namespace mlx_kd::runtime {
namespace tuning {

namespace fs = std::filesystem;
namespace mx = mlx::core;

// One proved setting, and which calls it serves.
struct ProvedSetting {
  const spec::Op* op;
  packs::Entry entry;
  spec::Dtype dtype;
  spec::Dims dims;
  std::string device_kind;
  std::shared_ptr<Kernel> kernel;

  bool serves(spec::Dtype type, const spec::Dims& size) const {
    if (type != dtype) return false;
    const auto ranges = packs::ranges_of(entry, op->batch_dim);
    return std::all_of(size.items().begin(), size.items().end(), [&](const auto& item) {
      const auto range = ranges.find(item.first);
      return dims.value_or(item.first, -1) == item.second ||
             (range != ranges.end() && range->second.lo <= item.second &&
              item.second <= range->second.hi);
    });
  }
};

// A call of arrays of one size, ready to be added to a graph.
struct ReadyCall {
  std::shared_ptr<Kernel> kernel;
  devices::Call call;
  std::vector<mx::Shape> outputs;
};

static std::shared_ptr<const devices::Device> device_of(const packs::Entry& entry) {
  for (const auto& report : devices::list_devices()) {
    if (!report.available || report.kind == "null") continue;
    const auto device = devices::open_device(report.kind);
    const auto languages = device->languages();
    const bool speaks =
        std::find(languages.begin(), languages.end(), entry.language) != languages.end();
    if (speaks && device->id().arch == entry.key.device_arch &&
        device->id().name == entry.key.device_name)
      return device;
  }
  base::misuse("tuned", "it is for " + entry.key.device_name + " (" + entry.key.device_arch +
                            "), which is not here: tune the kernel on this machine");
}

static void check_version(const packs::Entry& entry) {
  if (entry.key.mlx_version == mx::version()) return;
  base::misuse("tuned", "it was proved with MLX " + entry.key.mlx_version + ", and this is MLX " +
                            mx::version() + ": run kd revalidate, or tune the kernel again");
}

static ProvedSetting setting_for(const packs::Entry& entry, const spec::Op& op) {
  check_version(entry);
  const auto device = device_of(entry);
  ProvedSetting result{&op,
                       entry,
                       spec::parse_float_dtype(entry.key.dtype),
                       entry.key.shape_signature,
                       device->id().kind,
                       nullptr};
  spec::Candidate candidate = packs::candidate_as_stored(entry);
  candidate.dtype = result.dtype;
  candidate.knobs = setting_of(entry);
  spec::name_numbers(candidate, op);
  result.kernel = kernel_of(device, candidate, "");
  result.entry.source.clear();
  return result;
}

static std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += "\n  " + line;
  return text;
}

}  // namespace tuning

using namespace tuning;

struct Tuned::State {
  const spec::Op* op = nullptr;
  std::unique_ptr<Signature> signature;
  std::vector<ProvedSetting> settings;
  mx::Device::DeviceType place = mx::Device::cpu;
  std::mutex mutex;  // of what follows
  std::map<CallKey, std::shared_ptr<const ReadyCall>> ready;

  void load(const packs::Pack& pack, const std::string& wanted, const std::string& origin);
  std::vector<std::string> lines() const;
  spec::Dtype type_of(const std::vector<mx::array>& inputs) const;
  std::shared_ptr<const ReadyCall> make_ready(const std::vector<mx::array>& inputs) const;
  std::shared_ptr<const ReadyCall> find(const std::vector<mx::array>& inputs);
};

// Of several descriptions of one name the last counts.
void Tuned::State::load(const packs::Pack& pack, const std::string& wanted,
                        const std::string& origin) {
  std::vector<std::string> names, why;
  for (const packs::Entry& entry : pack.entries) {
    const auto description = entry.other.find("kernel");
    if (description == entry.other.end()) continue;
    const std::string& name = entry.key.op_name;
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    if (!wanted.empty() && name != wanted) continue;
    try {
      settings.push_back(setting_for(entry, kernels::add_user_op(*description)));
    } catch (const base::Error& error) {
      why.push_back(packs::title(entry) + ": " + error.what());
    }
  }
  if (wanted.empty() && names.size() > 1)
    base::misuse("tuned", origin + " holds several kernels: name one of " + base::list_of(names));
  if (settings.empty())
    base::misuse("tuned", origin + " has no winner of a kernel of kd tune that can run here" +
                              (wanted.empty() ? "" : " by the name '" + wanted + "'") +
                              (why.empty() ? ": look at its report" : ":" + joined(why)));
  op = settings.back().op;
  signature = std::make_unique<Signature>(*op);
  place = devices::mlx_place(settings.back().device_kind);
}

Tuned::Tuned(const fs::path& path, const std::string& name) : state_(std::make_shared<State>()) {
  const fs::path file = fs::is_directory(path) ? path / "best_kernels.json" : path;
  std::error_code ignored;
  if (!fs::exists(file, ignored))
    base::misuse("tuned", file.string() +
                              " does not exist: give the folder of a finished run of kd "
                              "tune, in which a setting won, or a pack");
  state_->load(packs::parse_pack(trusted_text(file, Trust::owner), file.string()), name,
               path.string());
}

std::vector<std::string> Tuned::State::lines() const {
  std::vector<std::string> result;
  for (const ProvedSetting& one : settings) {
    const std::string ranges = packs::ranges_text(one.entry);
    result.push_back(spec::name_of(one.dtype) + " " + one.dims.text() +
                     (ranges.empty() ? "" : " (" + ranges + ")") + ": " +
                     one.kernel->candidate().knobs.text());
  }
  return result;
}

spec::Dtype Tuned::State::type_of(const std::vector<mx::array>& inputs) const {
  for (size_t i = 0; i < inputs.size(); ++i)
    if (op->inputs[i].type.follows())
      if (const auto type = element_type(inputs[i])) return *type;
  return settings.front().dtype;
}

std::shared_ptr<const ReadyCall> Tuned::State::make_ready(
    const std::vector<mx::array>& inputs) const {
  DimValues values = {};
  for (size_t i = 0; i < op->dims.size(); ++i)  // sizes that no array tells are those of the run
    values[i] = settings.front().dims.value_or(op->dims[i].name, 0);
  signature->check_count(inputs.size());
  const std::vector<double> scalars = spec::default_scalars(*op);
  signature->read(Inputs(inputs), scalars, values);
  const spec::Dims dims = dims_of(*op, values);
  const spec::Dtype type = type_of(inputs);
  const auto found = std::find_if(settings.begin(), settings.end(),
                                  [&](const ProvedSetting& one) { return one.serves(type, dims); });
  if (found == settings.end())
    throw std::invalid_argument("[" + op->name + "] no setting is proved for " +
                                spec::name_of(type) + " at " + dims.text() + ", only for" +
                                joined(lines()) + "\ntune it at that size, or over a --range");
  for (size_t i = 0; i < inputs.size(); ++i)
    if (element_type(inputs[i]) != op->inputs[i].type.at(type, dims))
      throw std::invalid_argument("[" + op->name + "] '" + op->inputs[i].name + "' is " +
                                  type_text(inputs[i]) + ": give " +
                                  spec::name_of(op->inputs[i].type.at(type, dims)));
  auto made = std::make_shared<ReadyCall>();
  made->kernel = found->kernel;
  const spec::Op& own = *found->op;  // of the description that the setting was found with
  made->call = devices::make_call(own, own.variants.front(), type, dims,
                                  found->kernel->candidate().knobs, scalars);
  std::vector<spec::Shape> ports;
  for (const spec::ArraySpec& output : made->call.outputs) ports.push_back(output.shape);
  made->outputs = signature->output_shapes(inputs, ports);
  return made;
}

std::shared_ptr<const ReadyCall> Tuned::State::find(const std::vector<mx::array>& inputs) {
  constexpr size_t kMostReady = 1024;  // where shapes change at every call, it is emptied
  CallKey shapes = key_of(inputs);
  {
    std::lock_guard lock(mutex);
    if (const auto known = ready.find(shapes); known != ready.end()) return known->second;
  }
  auto made = make_ready(inputs);
  std::lock_guard lock(mutex);
  if (ready.size() >= kMostReady) ready.clear();
  return ready.emplace(std::move(shapes), std::move(made)).first->second;
}

std::vector<mx::array> Tuned::operator()(const std::vector<mx::array>& inputs,
                                         const mx::StreamOrDevice& s) const {
  const auto call = state_->find(inputs);
  const devices::Program* program = call->kernel->program(true);
  if (!program)
    throw std::runtime_error("[" + state_->op->name +
                             "] its kernel cannot be used: " + call->kernel->reason());
  const bool is_default = std::holds_alternative<std::monostate>(s);
  const mx::Stream stream =
      is_default ? mx::default_stream(mx::Device(state_->place)) : mx::to_stream(s);
  return program->add_to_graph(inputs, call->outputs, call->call, {stream});
}

std::string Tuned::name() const {
  return state_->op->name;
}

std::vector<std::string> Tuned::settings() const {
  return state_->lines();
}

}  // namespace mlx_kd::runtime
