#include "mlx_kd/devices/simt/checks/session.h"

#include <cstring>
#include <sstream>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/metal_text/binding.h"
#include "mlx_kd/devices/simt/checks/findings.h"
#include "mlx_kd/devices/simt/program/simt_compiler.h"

namespace mlx_kd::devices::simt {

Session::Session(const std::string& name, const std::string& text,
                 const msl::PreprocessOptions& options, const msl::TranslateOptions& translate)
    : text_(translate_text({name, text, options}, msl::Target::cpp, translate)) {}

std::vector<void*> Session::bind(const msl::Kernel& kernel, MslRequest& request,
                                 Checker* checker) const {
  at_kernel(kernel, *unit().sources, [&] { check_names(kernel, request); });
  std::vector<void*> buffers;
  for (const msl::Binding& one : kernel.buffers) {
    buffers.resize(std::max(buffers.size(), static_cast<size_t>(one.index) + 1), nullptr);
    HostArray* array = array_of(kernel, one, request, text_);
    if (!array) continue;
    void* memory = array->data();
    if (checker) {
      memory = checker->add_buffer(one.name, array->bytes());
      std::memcpy(memory, array->data(), array->bytes());
    }
    buffers[static_cast<size_t>(one.index)] = memory;
  }
  return buffers;
}

std::shared_ptr<Module> Session::module(bool check, bool debug) {
  std::shared_ptr<Module>& module = check ? checked_ : debug ? debug_ : plain_;
  if (module) return module;
  CompileOptions options;
  options.check = check;
  options.debug = debug && !check;
  const Artifact made =
      compile(unit(), translation(), options, unit().sources->name(unit().file)).artifact;
  if (made.timed_out) base::fail("msl", made.error);
  if (!made.ok) base::misuse("msl", made.error);
  module = Module::load(made.path.string());
  return module;
}

MslOutcome Session::run(MslRequest& request) {
  const msl::Kernel& kernel = find_kernel(text_.made, request.kernel);
  const bool check = request.check_races || request.check_memory;
  Checker checker({request.check_races, request.check_memory});
  const std::vector<void*> buffers = bind(kernel, request, check ? &checker : nullptr);
  check_constants(text_, kernel);
  const std::shared_ptr<Module> code = module(check, request.debug);
  std::vector<size_t> group_bytes = request.group_bytes;
  const std::vector<size_t> known = code->group_bytes(kernel);
  for (size_t i = group_bytes.size(); i < known.size() && known[i] > 0; ++i)
    group_bytes.push_back(known[i]);
  check_group_bytes(kernel, group_bytes.size(), *unit().sources);
  LaunchOptions options{request.launch};
  if (check) options.monitor = &checker;
  if (request.debug) options.fibers = true;
  MslOutcome outcome;
  outcome.report = at_kernel(kernel, *unit().sources, [&] {
    return launch(code->entry(kernel), buffers, group_bytes, request.grid, request.threadgroup,
                  options);
  });
  const std::string place = unit().sources->describe(kernel.at) + ": kernel '" + kernel.name + "' ";
  if (outcome.report.timed_out) {
    std::ostringstream limit;
    limit << options.timeout_s;
    base::fail("msl", place + "did not end within " + limit.str() + " s");
  }
  for (const Finding& one : checker.findings())
    outcome.findings.push_back(describe(one, text_, *code));
  if (!outcome.report.fault.empty() && outcome.findings.empty())
    base::fail("msl", place + "ended early: " + outcome.report.fault);
  for (const msl::Binding& one : kernel.buffers)
    if (HostArray* array = array_named(request, one.name); check && array)
      std::memcpy(array->data(), buffers[static_cast<size_t>(one.index)], array->bytes());
  return outcome;
}

}  // namespace mlx_kd::devices::simt
