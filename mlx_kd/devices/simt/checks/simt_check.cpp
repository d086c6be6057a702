#include "mlx_kd/devices/simt/checks/simt_check.h"

#include <cstring>
#include <map>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/simt/checks/findings.h"
#include "mlx_kd/devices/simt/program/call_memory.h"
#include "mlx_kd/devices/simt/program/simt_compiler.h"
#include "mlx_kd/devices/simt/program/simt_program.h"

namespace mlx_kd::devices::simt {
namespace {

using Holds = MetalArgument::Holds;
using Bytes = std::span<const std::byte>;

constexpr double kLimit_s = 20;  // for each stage

Artifact watched_object(const TranslatedText& text, const std::string& op_name) {
  CompileOptions options;
  options.check = true;
  return compile(text.unit, text.made, options, op_name).artifact;
}

// A candidate's kernels, compiled so that every access is reported.
struct Watched {
  Watched(const MetalText& source, const spec::Candidate& candidate)
      : text(translate_text(source, msl::Target::cpp)), kernels(stage_kernels(text, candidate)) {
    const Artifact made = watched_object(text, candidate.op_name);
    if (!made.ok) base::fail("simt", made.error);
    module = Module::load(made.path.string());
  }
  TranslatedText text;
  std::vector<StageKernel> kernels;
  std::shared_ptr<Module> module;
};

// The outputs of a call as they are before it, and the inputs, those that are updated in the
// outputs' memory.
struct Arrays {
  Arrays(const std::vector<Bytes>& inputs, const std::vector<size_t>& output_bytes,
         const Call& call)
      : memory(make_memory(call)) {
    for (const Bytes& input : inputs) {  // (they are only read: the kernel gets copies)
      memory.inputs.push_back({const_cast<std::byte*>(input.data()), input.size()});
      is_updated.push_back(false);
    }
    for (size_t i = 0; i < output_bytes.size(); ++i) {
      outputs.emplace_back(output_bytes[i]);
      memory.outputs.push_back({outputs[i].data(), outputs[i].size()});
      const int updated = call.updated_input(i);
      if (updated < 0) continue;
      const auto input = static_cast<size_t>(updated);
      std::memcpy(outputs[i].data(), inputs[input].data(), outputs[i].size());
      memory.inputs[input] = memory.outputs[i];
      is_updated[input] = true;
    }
  }
  bool may_change(const MetalArgument& argument) const {
    return argument.holds == Holds::output || argument.holds == Holds::scratch ||
           (argument.holds == Holds::input && is_updated[argument.port]);
  }

  CallMemory memory;
  std::vector<std::vector<std::byte>> outputs;
  std::vector<bool> is_updated;  // by input
};

// Watched copies of a stage's buffers; one of what is bound under several names.
class Copies {
 public:
  Copies(const StageKernel& kernel, const std::vector<HostMemory>& buffers, Checker& checker) {
    for (size_t i = 0; i < buffers.size(); ++i) {
      const HostMemory& from = buffers[i];
      void*& copy = by_memory_[from.at];
      if (!copy || from.bytes == 0) {
        copy = checker.add_buffer(kernel.arguments[i].name, from.bytes);
        if (from.bytes > 0) std::memcpy(copy, from.at, from.bytes);
      }
      copies_.push_back({copy, from.bytes});
    }
  }
  const std::vector<HostMemory>& all() const { return copies_; }

 private:
  std::map<void*, void*> by_memory_;
  std::vector<HostMemory> copies_;
};

// "stage 2 of 3 (finish): ", nothing where there is but one.
std::string stage_text(const Call& call, size_t stage) {
  if (call.stages.size() == 1) return "";
  return "stage " + std::to_string(stage + 1) + " of " + std::to_string(call.stages.size()) + " (" +
         call.stages[stage].func_name + "): ";
}

std::vector<std::string> watch_stage(const Watched& code, const StageKernel& kernel,
                                     const Call& call, size_t stage, Arrays& arrays) {
  const StageBuffers buffers(kernel, call, call.stages[stage], arrays.memory);
  Checker checker({true, true});
  const Copies copies(kernel, buffers.of_arguments(), checker);
  LaunchOptions options;
  options.timeout_s = kLimit_s;
  options.monitor = &checker;
  const spec::Launch& size = call.stages[stage].launch;
  const LaunchReport report =
      launch(code.module->entry(kernel.kernel), by_index(kernel, copies.all()), {},
             size3(size.grid, "grid"), size3(size.group, "threadgroup"), options);
  const std::string where = stage_text(call, stage);
  std::vector<std::string> faults;
  for (const Finding& one : checker.findings())
    faults.push_back(where + describe(one, code.text, *code.module));
  if (faults.empty() && (report.timed_out || !report.fault.empty()))
    faults.push_back(where + code.text.unit.sources->describe(kernel.kernel.at) + ": the kernel " +
                     (report.timed_out ? "did not end in time" : "ended early: " + report.fault));
  for (size_t i = 0; i < kernel.arguments.size(); ++i)
    if (const HostMemory& to = buffers.of_arguments()[i];
        arrays.may_change(kernel.arguments[i]) && to.bytes > 0)
      std::memcpy(to.at, copies.all()[i].at, to.bytes);
  return faults;
}

}  // namespace

void compile_watched(const MetalText& source, const std::string& op_name) {
  watched_object(translate_text(source, msl::Target::cpp), op_name);
}

std::vector<std::string> find_faults(const MetalText& source, const spec::Candidate& candidate,
                                     const std::vector<Bytes>& inputs,
                                     const std::vector<size_t>& output_bytes, const Call& call) {
  const Watched code(source, candidate);
  const auto kernels = kernels_of(code.kernels, call, candidate);
  Arrays arrays(inputs, output_bytes, call);
  std::vector<std::string> faults;
  for (size_t i = 0; i < kernels.size() && faults.empty(); ++i)
    if (has_threads(call.stages[i])) faults = watch_stage(code, *kernels[i], call, i, arrays);
  return faults;
}

}  // namespace mlx_kd::devices::simt
