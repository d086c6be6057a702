#include "mlx_kd/devices/simt/checks/watch.h"

#include <cstdio>
#include <cstring>
#include <mutex>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/environment.h"
#include "mlx_kd/devices/host/once.h"
#include "mlx_kd/devices/simt/checks/findings.h"
#include "mlx_kd/devices/simt/executor/checker.h"
#include "mlx_kd/devices/simt/program/simt_compiler.h"

namespace mlx_kd::devices::simt {
namespace {

constexpr double kWatchCompile_s = 120;
constexpr size_t kMostSignatures = 4096;  // that are remembered, and reports that are kept

// Arrays may run a kernel after every static object is gone: it is never destroyed.
struct WatchState {
  std::mutex mutex;
  std::optional<Watch> process;
  std::set<std::string> seen;
  std::vector<WatchReport> reports;
};
WatchState& watch_state() {
  static auto& one = *new WatchState;
  return one;
}

thread_local std::optional<Watch> watch_of_thread;

// A kernel, compiled so that every access is reported.
struct WatchedKernel {
  explicit WatchedKernel(const MetalText& text) : source(translate_text(text, msl::Target::cpp)) {
    CompileOptions options;
    options.check = true;
    options.timeout_s = kWatchCompile_s;
    const Artifact made = compile(source.unit, source.made, options, "metal_kernel").artifact;
    if (!made.ok) base::fail("simt", made.error);
    module = Module::load(made.path.string());
  }
  TranslatedText source;
  std::shared_ptr<Module> module;
};

std::shared_ptr<const WatchedKernel> watched_kernel(const MetalText& text) {
  static auto& known = *new OncePerKey<WatchedKernel>;
  return known.get(all_of(text), [&] { return std::make_shared<WatchedKernel>(text); });
}

std::string watch_signature(const MetalBody& body, const std::vector<WatchedBuffer>& buffers,
                            Size3 grid, Size3 group) {
  std::string text = all_of(body.text);
  for (const WatchedBuffer& one : buffers) text += '\0' + std::to_string(one.before + one.behind);
  for (size_t d = 0; d < 3; ++d)
    text += '\0' + std::to_string(grid[d]) + '/' + std::to_string(group[d]);
  return text;
}

bool is_first_watch(const std::string& signature) {
  const std::lock_guard lock(watch_state().mutex);
  if (watch_state().seen.size() >= kMostSignatures) return false;
  return watch_state().seen.insert(signature).second;
}

uint64_t groups_of_call(Size3 grid, Size3 group) {
  uint64_t count = 1;
  for (size_t d = 0; d < 3; ++d) count *= (grid[d] - 1) / std::min(grid[d], group[d]) + 1;
  return count;
}

void run_copies(const WatchedKernel& code, const msl::Kernel& kernel,
                const std::vector<WatchedBuffer>& buffers, const Watch& watch,
                WatchReport& report) {
  Checker checker({watch.races, watch.memory});
  std::vector<void*> copies;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const WatchedBuffer& one = buffers[i];
    auto* copy =
        static_cast<char*>(checker.add_buffer(kernel.buffers[i].name, one.before + one.behind));
    if (one.before + one.behind > 0)
      std::memcpy(copy, static_cast<const char*>(one.at) - one.before, one.before + one.behind);
    copies.push_back(copy + one.before);
  }
  LaunchOptions options;
  options.order = watch.order;
  options.seed = watch.seed;
  options.budget_s = watch.budget_s;
  options.timeout_s = 10 + 10 * watch.budget_s;  // for one group that never ends
  options.monitor = &checker;
  const LaunchReport ran =
      launch(code.module->entry(kernel), copies, {}, report.grid, report.threadgroup, options);
  report.watched = ran.groups;
  for (const Finding& one : checker.findings())
    report.findings.push_back(describe(one, code.source, *code.module));
  if (ran.timed_out) report.note = "one threadgroup took longer than the time limit";
  if (!ran.fault.empty() && report.findings.empty())
    report.findings.push_back(code.source.unit.sources->describe(kernel.at) +
                              ": the kernel ended early: " + ran.fault);
}

void print_report(const WatchReport& report) {
  for (const std::string& one : report.findings)
    std::fprintf(stderr, "[metal_kernel] kernel '%s': %s\n", report.kernel.c_str(), one.c_str());
  if (!report.note.empty())
    std::fprintf(stderr, "[metal_kernel] kernel '%s' was not watched to its end: %s\n",
                 report.kernel.c_str(), report.note.c_str());
}

}  // namespace

Watch parse_watch(const std::string& checks, const std::string& order) {
  Watch watch;
  for (size_t at = 0; at <= checks.size();) {
    const size_t end = std::min(checks.find(',', at), checks.size());
    const std::string one = checks.substr(at, end - at);
    at = end + 1;
    if (one == "races")
      watch.races = true;
    else if (one == "memory")
      watch.memory = true;
    else if (one != "none" && !one.empty())
      base::misuse("metal_kernel", "'" + one + "' is not a check: use races, memory or none");
  }
  if (order == "random")
    watch.order = ThreadOrder::random;
  else if (order == "reverse")
    watch.order = ThreadOrder::reverse;
  else if (order != "forward")
    base::misuse("metal_kernel", "'" + order + "' is no order: use forward, reverse or random");
  return watch;
}

void set_watch(const Watch& watch) {
  const std::lock_guard lock(watch_state().mutex);
  watch_state().process = watch;
  watch_state().seen.clear();
}

Watch current_watch() {
  if (watch_of_thread) return *watch_of_thread;
  const std::lock_guard lock(watch_state().mutex);
  if (!watch_state().process)
    watch_state().process = parse_watch(env_text("MLX_KD_METAL_CHECK", ""), "forward");
  return *watch_state().process;
}

WatchScope::WatchScope(const std::optional<Watch>& watch) : before_(watch_of_thread) {
  if (watch) watch_of_thread = watch;
}

WatchScope::~WatchScope() {
  watch_of_thread = before_;
}

std::vector<WatchReport> take_reports() {
  const std::lock_guard lock(watch_state().mutex);
  return std::exchange(watch_state().reports, {});
}

void watch_call(const MetalBody& body, const std::string& name,
                const std::vector<WatchedBuffer>& buffers, Size3 grid, Size3 group,
                const Watch& watch) {
  if (!is_first_watch(watch_signature(body, buffers, grid, group))) return;
  WatchReport report{name, grid, group, groups_of_call(grid, group), 0, {}, ""};
  try {
    const auto code = watched_kernel(body.text);
    run_copies(*code, code->source.kernel(body.kernel), buffers, watch, report);
  } catch (const std::exception& error) {
    report.note = error.what();
  }
  if (watch.print) print_report(report);
  const std::lock_guard lock(watch_state().mutex);
  if (watch_state().reports.size() < kMostSignatures)
    watch_state().reports.push_back(std::move(report));
}

}  // namespace mlx_kd::devices::simt
