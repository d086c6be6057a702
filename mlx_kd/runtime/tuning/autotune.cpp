// A call looks its arrays up by their types and axes: what is found there is ready to run. Only
// prepare() and the first call of a size look at the pack.
#include "mlx_kd/runtime/tuning/autotune.h"

#include <mlx/ops.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <shared_mutex>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/log_once.h"
#include "mlx_kd/base/own_folder.h"
#include "mlx_kd/base/process.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/packs/pack.h"
#include "mlx_kd/runtime/call/metal_kernel.h"
#include "mlx_kd/runtime/state/trust.h"
#include "mlx_kd/runtime/tuning/autotune_digest.h"
#include "mlx_kd/runtime/tuning/autotune_files.h"
#include "mlx_kd/runtime/tuning/background.h"
#include "mlx_kd/runtime/tuning/call_key.h"
#include "mlx_kd/runtime/tuning/tuned.h"

namespace mlx_kd::runtime {
namespace autotuning {

namespace fs = std::filesystem;
namespace mx = mlx::core;

constexpr size_t kMostSizes = 1024;  // of a kernel: what it knows of calls
constexpr double kLongestTune_s = 86400;

static std::string arrays_text(const std::vector<mx::array>& inputs) {
  std::string text;
  for (const mx::array& input : inputs) {
    text += (text.empty() ? "" : ", ") + type_name(input.dtype()) + " [";
    for (size_t i = 0; i < input.ndim(); ++i)
      text += (i ? ", " : "") + std::to_string(input.shape(static_cast<int>(i)));
    text += "]";
  }
  return text;
}

// $MLX_KD_PROGRAM, the kd of this build or installation, the one in PATH.
static std::string kd_program() {
  if (const char* given = std::getenv("MLX_KD_PROGRAM"); given && *given) return given;
  std::error_code ignored;
  for (const char* place : {"kd", "../kd", "bin/kd", "../bin/kd"}) {
    const fs::path program = base::own_folder() / place;
    if (fs::is_regular_file(program, ignored)) return program.string();
  }
  return "kd";
}

static fs::path cache_folder() {
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  const char* const home = std::getenv("HOME");
  const fs::path base = cache && *cache ? fs::path(cache) : fs::path(home ? home : ".") / ".cache";
  return base / "mlx_kd" / "autotune";
}

static bool is_switched_off() {
  const char* const value = std::getenv("MLX_KD_AUTOTUNE");
  const std::string text = value ? value : "1";
  return text == "0" || text == "false" || text == "off";
}

// Winners are of this text and these knobs: a changed kernel is another one.
static std::string name_with_text(const AutotuneKernel& kernel, const Autotune& options) {
  std::string text = kernel.source + '\0' + kernel.header + '\0' + options.judge;
  for (const auto& [name, values] : options.knobs) {
    text += '\0' + name;
    for (const int64_t value : values) text += ' ' + std::to_string(value);
  }
  for (const auto* names : {&kernel.input_names, &kernel.output_names, &options.where})
    for (const std::string& one : *names) text += '\0' + one;
  return kernel.name + "_" + base::sha256_hex(text).substr(0, 12);
}

// `behind`: of a program that goes on meanwhile.
static void run_kd(const std::vector<std::string>& words, const BackgroundTuning::Run* behind) {
  const std::string program = kd_program();
  std::vector<std::string> command = {program};
  if (behind) command = {"nice", "-n", "5", program};
  command.insert(command.end(), words.begin(), words.end());
  constexpr size_t kMostMessages = 1 << 20;
  const base::ProcessResult ran =
      base::run_process(command, kLongestTune_s, kMostMessages, behind ? behind->ended : nullptr);
  if (ran.ok()) return;
  if (!ran.started)
    base::misuse("autotune",
                 "the program '" + program + "' cannot be started: name kd in MLX_KD_PROGRAM");
  std::string message = ran.output;
  message.erase(message.find_last_not_of(" \n") + 1);
  base::fail("autotune", message.empty() ? "kd ended early" : message);
}

static std::string device_in_use() {
  if (mx::default_device() == mx::Device::cpu) return "simt";
#ifdef __APPLE__
  return "metal";
#else
  return "cuda";
#endif
}

static void check_call(const AutotuneKernel& kernel, const std::vector<mx::array>& inputs) {
  if (inputs.size() != kernel.input_names.size())
    base::misuse("autotune", "'" + kernel.name + "' takes " +
                                 std::to_string(kernel.input_names.size()) +
                                 " inputs, and a size has " + std::to_string(inputs.size()));
  for (const mx::array& input : inputs)
    if (input.ndim() == 0)
      base::misuse("autotune", "an input of '" + kernel.name +
                                   "' is a number: give it an axis, or put it into the source");
}

// What serves the calls of one size.
struct Served {
  bool proved = false;
  AutotuneKernel::Knobs knobs;
  AutotuneKernel::Launch launch;
  mx::fast::CustomKernelFunction function;  // empty: the reference
  std::string arrays;                       // for people
  mx::Dtype own = mx::float32;
};

}  // namespace autotuning

using namespace autotuning;

struct Autotuned::State {
  AutotuneKernel kernel;
  Autotune options;
  std::string name;
  fs::path folder;
  bool enabled = true;
  mutable std::shared_mutex mutex;  // of what follows
  std::map<CallKey, std::shared_ptr<const Served>> served;
  std::mutex tuning;                           // one run at a time
  std::optional<BackgroundTuning> background;  // the first to go: it uses the others

  fs::path pack() const { return folder / "pack.json"; }
  std::shared_ptr<const Served> with_knobs(const std::vector<mx::array>& inputs,
                                           const AutotuneKernel::Knobs& knobs, bool proved) const;
  std::shared_ptr<const Served> find(const std::vector<mx::array>& inputs, bool is_call);
  std::shared_ptr<const Served> kept_winner(const std::vector<mx::array>& inputs) const;
  bool is_of_this_kernel(const packs::Entry& entry, const std::vector<mx::array>& inputs) const;
  void keep(const CallKey& key, std::shared_ptr<const Served> one);
  fs::path place_of(const std::vector<mx::array>& inputs) const;
  void want(const std::vector<mx::array>& inputs);
  void tune(const std::vector<mx::array>& inputs, uint64_t budget, const std::string& device,
            const BackgroundTuning::Run* behind);
};

std::shared_ptr<const Served> Autotuned::State::with_knobs(const std::vector<mx::array>& inputs,
                                                           const AutotuneKernel::Knobs& knobs,
                                                           bool proved) const {
  auto result = std::make_shared<Served>();
  result->proved = proved;
  result->knobs = knobs;
  result->arrays = arrays_text(inputs);
  result->own = own_type(inputs);
  if (knobs.empty()) return result;
  std::string macros;
  for (const auto& [knob, value] : knobs)
    macros += "#define " + knob + " " + std::to_string(value) + "\n";
  result->launch = kernel.launch(inputs, knobs);
  result->function = metal_kernel(kernel.name, kernel.input_names, kernel.output_names,
                                  kernel.source, macros + kernel.header);
  return result;
}

// Whether the entry was proved for the launches and the reference that there are now. Those of the
// text and the knobs alone are in the name.
bool Autotuned::State::is_of_this_kernel(const packs::Entry& entry,
                                         const std::vector<mx::array>& inputs) const {
  try {
    const std::string text = autotune_text(kernel, options, inputs);
    return entry.source.find(autotune_digest(text, options, inputs)) != std::string::npos;
  } catch (const std::exception&) {  // it could not be tuned for these arrays now
    return false;
  }
}

// The setting of the pack for arrays like these on this device, if there is one.
std::shared_ptr<const Served> Autotuned::State::kept_winner(
    const std::vector<mx::array>& inputs) const {
  if (!fs::exists(pack())) return nullptr;
  std::vector<std::string> usable;
  try {
    usable = Tuned(pack(), name).settings();
  } catch (const base::Error&) {  // another device, another MLX
    return nullptr;
  }
  const std::string wanted = type_name(own_type(inputs)), size = size_text(inputs);
  const bool is_cpu = mx::default_device() == mx::Device::cpu;
  const packs::Pack all = packs::parse_pack(trusted_text(pack(), Trust::owner), pack().string());
  for (const packs::Entry& entry : all.entries) {
    if (entry.key.op_name != name || entry.key.dtype != wanted ||
        (entry.key.device_arch == "simt") != is_cpu ||
        !(entry.key.shape_signature == spec::Dims::parse(size)))
      continue;
    if (std::none_of(usable.begin(), usable.end(), [&](const std::string& line) {
          return line.starts_with(wanted + " " + entry.key.shape_signature.text() + ":");
        }))
      continue;
    if (!is_of_this_kernel(entry, inputs)) return nullptr;
    AutotuneKernel::Knobs knobs;
    for (const auto& [knob, values] : options.knobs)
      knobs.emplace_back(knob, entry.knobs.at(knob).get<int64_t>());
    return with_knobs(inputs, knobs, true);
  }
  return nullptr;
}

void Autotuned::State::keep(const CallKey& key, std::shared_ptr<const Served> one) {
  std::unique_lock lock(mutex);
  if (served.size() >= kMostSizes) {
    std::erase_if(served, [](const auto& known) { return !known.second->proved; });
    base::log_once("autotune", "'" + kernel.name + "' has been called with more than " +
                                   std::to_string(kMostSizes) +
                                   " sizes, which are not all kept: tune kernels whose inputs "
                                   "have few sizes, or pad them");
  }
  served[key] = std::move(one);
}

// The first call of a size: what is known of it decides all later ones.
std::shared_ptr<const Served> Autotuned::State::find(const std::vector<mx::array>& inputs,
                                                     bool is_call) {
  const CallKey key = key_of(inputs);
  {
    std::shared_lock lock(mutex);
    if (const auto known = served.find(key); known != served.end()) return known->second;
  }
  std::shared_ptr<const Served> found = enabled ? kept_winner(inputs) : nullptr;
  if (!found) {
    AutotuneKernel::Knobs knobs;
    if (enabled && options.serve_default)
      for (const auto& [knob, values] : options.knobs) knobs.emplace_back(knob, values.front());
    found = with_knobs(inputs, knobs, false);
  }
  keep(key, found);
  if (is_call && background && !found->proved) want(inputs);
  return found;
}

fs::path Autotuned::State::place_of(const std::vector<mx::array>& inputs) const {
  return folder / base::sha256_hex(arrays_text(inputs)).substr(0, 12);
}

// The functions of the program are asked here, in the thread of the call, and not behind its back.
void Autotuned::State::want(const std::vector<mx::array>& inputs) {
  BackgroundTuning::Size size{arrays_text(inputs), {}, device_in_use()};
  if (!background->ask(size.text)) return;
  try {
    check_call(kernel, inputs);
    write_autotune_files(place_of(inputs), kernel, options, inputs);
    for (const mx::array& input : inputs)
      size.like.push_back(mx::zeros(input.shape(), input.dtype()));
    background->want(std::move(size));
  } catch (const std::exception& error) {
    background->failed(size.text, error.what());
  }
}

// What write_autotune_files wrote.
void Autotuned::State::tune(const std::vector<mx::array>& inputs, uint64_t budget,
                            const std::string& device, const BackgroundTuning::Run* behind) {
  const fs::path place = place_of(inputs);
  const base::ScratchFolder temporary("autotune");
  const fs::path run = temporary.file("run");
  std::vector<std::string> words = {"tune",     (place / "kernel.metal").string(),
                                    "--fn",     kernel.name,
                                    "--name",   name,
                                    "--ref",    (place / "reference.py").string() + ":reference",
                                    "--judge",  options.judge,
                                    "--shapes", size_text(inputs),
                                    "--dtype",  type_name(own_type(inputs)),
                                    "--device", device,
                                    "--budget", std::to_string(budget ? budget : options.budget),
                                    "--out",    run.string(),
                                    "--quiet"};
  if (behind) words.insert(words.end(), {"--pause", behind->in_use.string(), "--batch", "1"});
  run_kd(words, behind);
  if (!fs::exists(run / "best_kernels.json")) return;
  run_kd({"install", "--run", run.string(), "--output", pack().string()}, behind);
  if (auto winner = kept_winner(inputs)) keep(key_of(inputs), std::move(winner));
}

Autotuned::Autotuned(AutotuneKernel kernel, Autotune options) : state_(std::make_shared<State>()) {
  if (options.knobs.empty() || std::any_of(options.knobs.begin(), options.knobs.end(),
                                           [](const auto& knob) { return knob.second.empty(); }))
    base::misuse("autotune", "'" + kernel.name +
                                 "' has no knobs, or one without values: give {\"TG\", {64, 128}}");
  if (!kernel.launch || !options.reference)
    base::misuse("autotune", "'" + kernel.name + "' lacks its launch or its reference: give both");
  state_->name = name_with_text(kernel, options);
  state_->folder = (options.folder.empty() ? cache_folder() : options.folder) / state_->name;
  state_->enabled = !is_switched_off();
  state_->kernel = std::move(kernel);
  state_->options = std::move(options);
  if (!state_->enabled || !state_->options.background) return;
  State* const state = state_.get();  // which ends the thread before it goes
  state->background.emplace(
      [state](const BackgroundTuning::Size& size, const BackgroundTuning::Run& run) {
        std::lock_guard one_at_a_time(state->tuning);
        state->tune(size.like, 0, size.device, &run);
      });
}

Autotuned autotune(AutotuneKernel kernel, Autotune options) {
  return {std::move(kernel), std::move(options)};
}

std::vector<mx::array> Autotuned::operator()(const std::vector<mx::array>& inputs,
                                             mx::StreamOrDevice s) const {
  if (state_->background) state_->background->called();
  const auto found = state_->find(inputs, true);
  if (!found->function) return state_->options.reference(inputs);
  const auto& [grid, group, shapes, types] = found->launch;
  const auto three = [](const std::array<int64_t, 3>& n) {
    return std::tuple(static_cast<int>(n[0]), static_cast<int>(n[1]), static_cast<int>(n[2]));
  };
  return found->function(inputs, shapes, types, three(grid), three(group), {{"T", found->own}},
                         std::nullopt, false, s);
}

std::vector<std::string> Autotuned::prepare(const std::vector<std::vector<mx::array>>& sizes,
                                            uint64_t budget) {
  if (!state_->enabled) return {};
  for (const auto& inputs : sizes) {
    check_call(state_->kernel, inputs);
    std::lock_guard one_at_a_time(state_->tuning);
    if (state_->find(inputs, false)->proved) continue;
    write_autotune_files(state_->place_of(inputs), state_->kernel, state_->options, inputs);
    state_->tune(inputs, budget, device_in_use(), nullptr);
  }
  return settings();
}

std::vector<std::string> Autotuned::failures() const {
  return state_->background ? state_->background->failures() : std::vector<std::string>();
}

std::vector<std::string> Autotuned::settings() const {
  std::vector<std::string> result;
  std::shared_lock lock(state_->mutex);
  for (const auto& [key, one] : state_->served)
    if (one->proved) result.push_back(one->arrays + ": " + setting_text(one->knobs));
  return result;
}

}  // namespace mlx_kd::runtime
