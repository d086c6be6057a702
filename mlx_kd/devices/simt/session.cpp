#include "mlx_kd/devices/simt/session.h"

#include <cstring>
#include <sstream>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/simt/binding.h"
#include "mlx_kd/msl/parse/statements.h"

namespace mlx_kd::devices::simt {
namespace {

// The places of an instruction that lie in Metal text: addr2line names inlined frames inside out.
std::string metal_line(const std::string& frames, const msl::SourceSet& sources) {
  std::istringstream stream(frames);
  std::string line;
  while (std::getline(stream, line)) {
    line = line.substr(0, line.find(" ("));
    const size_t colon = line.rfind(':');
    if (colon == std::string::npos) continue;
    for (uint32_t i = 0; i < sources.size(); ++i) {
      const std::string& name = sources.name(i);
      const std::string file = line.substr(0, colon);
      if (file == name ||
          (file.size() > name.size() &&
           file.compare(file.size() - name.size() - 1, std::string::npos, "/" + name) == 0))
        return name + line.substr(colon);
    }
  }
  return "a place without line information";
}

std::string thread_text(uint64_t group, uint32_t thread) {
  return "thread " + std::to_string(thread) + " of threadgroup " + std::to_string(group);
}

}  // namespace

Session::Session(const std::string& name, const std::string& text,
                 const msl::PreprocessOptions& options, const msl::TranslateOptions& translate)
    : unit_(msl::parse(name, text, options)),
      translation_(msl::translate(unit_, msl::Target::cpp, translate)) {}

std::vector<void*> Session::bind(const msl::Kernel& kernel, Request& request,
                                 Checker* checker) const {
  at_kernel(kernel, *unit_.sources, [&] { check_names(kernel, request); });
  std::vector<void*> buffers;
  for (const msl::Binding& one : kernel.buffers) {
    HostArray* array = &array_of(kernel, one, request, *unit_.sources);
    void* memory = array->data();
    if (checker) {
      memory = checker->add_buffer(one.name, array->bytes());
      std::memcpy(memory, array->data(), array->bytes());
    }
    buffers.resize(std::max(buffers.size(), static_cast<size_t>(one.index) + 1), nullptr);
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
  std::vector<msl::Diagnostic> found;
  module = compile(unit_, translation_, options, found);
  if (!module) msl::refuse(*unit_.sources, found[0].at, found[0].message, found[0].section);
  return module;
}

Outcome Session::run(Request& request) {
  const msl::Kernel& kernel = find_kernel(translation_, request.kernel);
  const bool check = request.check_races || request.check_memory;
  Checker checker({request.check_races, request.check_memory});
  const std::vector<void*> buffers = bind(kernel, request, check ? &checker : nullptr);
  check_group_bytes(kernel, request, *unit_.sources);
  const std::shared_ptr<Module> code = module(check, request.debug);
  LaunchOptions options = request.launch;
  if (check) options.monitor = &checker;
  if (request.debug) options.fibers = true;
  Outcome outcome;
  outcome.report = at_kernel(kernel, *unit_.sources, [&] {
    return launch(code->entry(kernel), buffers, request.group_bytes, request.grid,
                  request.threadgroup, options);
  });
  const std::string place = unit_.sources->describe(kernel.at) + ": kernel '" + kernel.name + "' ";
  if (outcome.report.timed_out) {
    std::ostringstream limit;
    limit << options.timeout_s;
    base::fail("msl", place + "did not end within " + limit.str() + " s");
  }
  for (const Finding& one : checker.findings()) outcome.findings.push_back(tell(one, *code));
  if (!outcome.report.fault.empty() && outcome.findings.empty())
    base::fail("msl", place + "ended early: " + outcome.report.fault);
  for (const msl::Binding& one : kernel.buffers)
    if (HostArray* array = array_named(request, one.name); check && array)
      std::memcpy(array->data(), buffers[static_cast<size_t>(one.index)], array->bytes());
  return outcome;
}

std::string Session::tell(const Finding& finding, const Module& module) const {
  const auto line = [&](const void* code) {
    return metal_line(module.line_of(code), *unit_.sources);
  };
  const auto site = [&] {
    return finding.site >= 0 && static_cast<size_t>(finding.site) < translation_.sites.size()
               ? unit_.sources->describe(translation_.sites[static_cast<size_t>(finding.site)])
               : std::string("<library>");
  };
  std::string memory = "'" + finding.memory + "'";
  if (finding.memory.compare(0, 5, "slot ") == 0) {
    const auto variables = msl::group_variables(unit_);
    const auto slot = static_cast<size_t>(std::stoul(finding.memory.substr(5)));
    if (slot < variables.size()) memory = "threadgroup '" + variables[slot].name + "'";
  }
  const std::string byte = "byte " + std::to_string(finding.byte) + " of " + memory;
  const std::string who = thread_text(finding.group, finding.thread);
  switch (finding.kind) {
    case Finding::Kind::race:
      return line(finding.code) + ": data race: " + who +
             (finding.writes ? " writes " : " reads ") + byte + " and " +
             thread_text(finding.other_group, finding.other_thread) +
             (finding.other_writes ? " wrote it at " : " read it at ") + line(finding.other_code) +
             " with no barrier between";
    case Finding::Kind::beyond:
      return line(finding.code) + ": " + who + (finding.writes ? " writes " : " reads ") + byte +
             ", which lies outside";
    case Finding::Kind::uninitialised:
      return line(finding.code) + ": " + who + " reads " + byte + " before any thread wrote it";
    case Finding::Kind::divergent_barrier:
      return site() + ": divergent barrier: not all threads of threadgroup " +
             std::to_string(finding.group) + " reach it";
    case Finding::Kind::divergent_simd:
      break;
  }
  return site() + ": simd function under divergence: " + who + " does not reach it with its lanes";
}

}  // namespace mlx_kd::devices::simt
