// kd msl check | run | to-cuda: Metal sources without a Mac.
#include <cmath>
#include <cstdio>
#include <memory>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/cli/msl_source.h"
#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/devices/cuda/compile/msl_session.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/metal_text/binding.h"
#include "mlx_kd/devices/simt/checks/session.h"
#include "mlx_kd/devices/simt/program/simt_compiler.h"
#include "mlx_kd/msl/parse/parser.h"
#include "mlx_kd/msl/prelude.h"
#include "mlx_kd/msl/rules/rules.h"

namespace mlx_kd::cli {
namespace {

namespace simt = devices::simt;

std::vector<devices::HostArray> parsed_inputs(const std::vector<std::string>& texts,
                                              uint64_t seed) {
  std::vector<devices::HostArray> result;
  for (const std::string& one : texts) result.push_back(devices::parse_array(one, seed));
  return result;
}

std::vector<devices::HostArray> parsed_outputs(const std::vector<std::string>& texts,
                                               uint64_t seed) {
  std::vector<devices::HostArray> result;
  for (const std::string& one : texts) result.push_back(devices::parse_output(one, seed));
  return result;
}

constexpr const char* kInputForm =
    "NAME=rand|uniform|bits|zeros|ones|arange|NUMBERS|@FILE:TYPE[:[SIZES]]";
constexpr const char* kOutputForm = "NAME=TYPE:[SIZES], of zeros, or filled as --in";

// ---- check

struct Check {
  MslSource source;
  std::vector<std::string> inputs, outputs;  // of a body
  bool json = false;
};

std::vector<msl::Diagnostic> diagnose(const Check& check, const MslText& text,
                                      const msl::Unit& unit) {
  std::vector<msl::Diagnostic> found = msl::check_rules(unit);
  if (!found.empty()) return found;
  const msl::Translation translation = msl::translate(unit, msl::Target::cpp, text.translate);
  for (const std::string& note : translation.notes) std::fprintf(stderr, "%s\n", note.c_str());
  simt::CompileOptions options;
  options.syntax = true;
  simt::Compiled made = simt::compile(unit, translation, options, check.source.file);
  if (!made.artifact.ok && made.found.empty()) base::fail("msl", made.artifact.error);
  return std::move(made.found);
}

// The function whose text holds the place, or nullptr.
const msl::Function* function_at(const msl::Unit& unit, msl::Position at) {
  for (const msl::Function& one : unit.functions) {
    const msl::Position first = unit.tokens[one.tokens.first].at;
    const msl::Position last = unit.tokens[one.tokens.last - 1].at;
    if (first.file == at.file && first.line <= at.line && at.line <= last.line) return &one;
  }
  return nullptr;
}

void print_check(const msl::Unit& unit, const std::vector<msl::Diagnostic>& found, bool json) {
  base::OrderedJson list = base::OrderedJson::array();
  for (const msl::Function& one : unit.functions) {
    if (!one.definition || one.at.file != unit.file) continue;
    size_t errors = 0;
    for (const msl::Diagnostic& each : found) errors += function_at(unit, each.at) == &one;
    const std::string place = unit.sources->describe(one.at);
    list.push_back(
        {{"function", one.name}, {"at", place}, {"kernel", one.kernel}, {"errors", errors}});
    if (!json)
      std::printf("%-9s %-7s %s  %s\n", errors ? "refused" : "accepted", one.kernel ? "kernel" : "",
                  place.c_str(), one.name.c_str());
  }
  if (json) {
    base::OrderedJson errors = base::OrderedJson::array();
    for (const msl::Diagnostic& each : found)
      errors.push_back({{"at", unit.sources->describe(each.at)},
                        {"message", each.message},
                        {"section", each.section}});
    std::printf("%s\n", base::OrderedJson{{"functions", list}, {"errors", errors}}.dump(2).c_str());
  }
}

void run_check(const Check& check) {
  if (!check.source.is_body && !(check.inputs.empty() && check.outputs.empty()))
    base::misuse("msl", "--in and --out name the arrays of a body: add --body, or leave them out");
  const MslText text =
      read_msl(check.source, parsed_inputs(check.inputs, 0), parsed_outputs(check.outputs, 0));
  const msl::Unit unit = msl::parse(check.source.file, text.text, text.preprocess);
  const std::vector<msl::Diagnostic> found = diagnose(check, text, unit);
  print_check(unit, found, check.json);
  if (found.empty()) return;
  std::string message;
  for (const msl::Diagnostic& each : found)
    message += (message.empty() ? "" : "\n[msl] ") + msl::describe(*unit.sources, each);
  base::misuse("msl", message);
}

// ---- run

struct Run {
  MslSource source;
  devices::MslRequest request;
  std::vector<std::string> inputs, outputs, checks;
  std::string save;
  std::vector<uint32_t> grid, threadgroup;
  std::string device = "simt", order = "forward";
  uint64_t seed = 0;
  bool json = false;
};

devices::Size3 size3(const std::vector<uint32_t>& given, const char* option) {
  if (given.empty() || given.size() > 3)
    base::misuse("msl", std::string(option) + " takes one, two or three sizes");
  devices::Size3 size{1, 1, 1};
  for (size_t i = 0; i < given.size(); ++i) size[i] = given[i];
  return size;
}

void prepare(Run& run) {
  if (run.device != "simt" && run.device != "cuda")
    base::misuse("msl", "no device '" + run.device + "' runs Metal sources: use simt or cuda");
  if (run.device == "cuda" && !run.checks.empty())
    base::misuse("msl", "--check needs the executor: leave out --device cuda");
  for (const std::string& one : run.checks) {
    if (one != "races" && one != "memory")
      base::misuse("msl", "'" + one + "' is not a check: use races or memory");
    (one == "races" ? run.request.check_races : run.request.check_memory) = true;
  }
  if (run.order != "forward" && run.order != "reverse" && run.order != "random")
    base::misuse("msl", "'" + run.order + "' is no order: use forward, reverse or random");
  run.request.launch.order = run.order == "forward"   ? devices::ThreadOrder::forward
                             : run.order == "reverse" ? devices::ThreadOrder::reverse
                                                      : devices::ThreadOrder::random;
  run.request.launch.seed = run.seed;
  run.request.grid = size3(run.grid, "--grid");
  run.request.threadgroup = size3(run.threadgroup, "--threadgroup");
}

// The arrays, now that there are places for what is wrong with one: its buffer's, or the kernel's.
void read_arrays(Run& run, const msl::Kernel& kernel, const msl::SourceSet& sources) {
  const auto add = [&](const std::string& text, const auto& parse) {
    try {
      run.request.arrays.push_back(parse(text));
    } catch (const base::Error& error) {
      msl::Position at = kernel.at;
      for (const msl::Binding& buffer : kernel.buffers)
        if (text.substr(0, text.find('=')) == buffer.name) at = buffer.at;
      devices::refuse_at(sources, at, error);
    }
  };
  for (const std::string& one : run.inputs)
    add(one, [&](const std::string& text) { return devices::parse_array(text, run.seed); });
  for (const std::string& one : run.outputs)
    add(one, [&](const std::string& text) { return devices::parse_output(text, run.seed); });
}

base::OrderedJson summary(const devices::HostArray& array) {
  double least = INFINITY, most = -INFINITY, sum = 0;
  size_t odd = 0;
  base::OrderedJson first = base::OrderedJson::array();
  for (size_t i = 0; i < array.elements(); ++i) {
    const double value = array.at(i);
    if (i < 8) first.push_back(value);
    if (!std::isfinite(value))
      ++odd;
    else
      least = std::min(least, value), most = std::max(most, value), sum += value;
  }
  const auto finite = static_cast<double>(array.elements() - odd);
  return {{"name", array.name},
          {"type", array.type},
          {"shape", array.shape},
          {"first", first},
          {"min", least},
          {"max", most},
          {"mean", finite > 0 ? sum / finite : 0.0},
          {"not_finite", odd}};
}

void print_array(const base::OrderedJson& one) {
  std::printf("%s %s %s  min %g  max %g  mean %g", one["name"].get<std::string>().c_str(),
              one["type"].get<std::string>().c_str(), one["shape"].dump().c_str(),
              one["min"].is_null() ? 0.0 : one["min"].get<double>(),
              one["max"].is_null() ? 0.0 : one["max"].get<double>(), one["mean"].get<double>());
  if (one["not_finite"] != 0) std::printf("  %zu not finite", one["not_finite"].get<size_t>());
  std::printf("\n ");
  for (const auto& value : one["first"])
    std::printf(" %g", value.is_null() ? NAN : value.get<double>());
  std::printf("%s\n", one["first"].size() == 8 ? " ..." : "");
}

// The elements alone, row by row.
void save(const devices::HostArray& array, const std::string& folder) {
  base::write_file_atomically(
      base::fs::path(folder) / (array.name + ".bin"),
      std::string_view(static_cast<const char*>(array.data()), array.bytes()), "msl");
}

template <class Session>
devices::MslOutcome run_with(Run& run) {
  MslText text = run.source.is_body ? read_msl(run.source, parsed_inputs(run.inputs, run.seed),
                                               parsed_outputs(run.outputs, run.seed))
                                    : read_msl(run.source, {}, {});
  if (run.source.is_body) run.request.kernel = text.kernel;
  text.translate.only = run.request.kernel;
  Session session(run.source.file, text.text, text.preprocess, text.translate);
  read_arrays(run, devices::find_kernel(session.translation(), run.request.kernel),
              *session.unit().sources);
  return session.run(run.request);
}

devices::MslOutcome run_on_device(Run& run) {
  if (run.device == "simt") return run_with<simt::Session>(run);
  devices::open_device("cuda");  // says what is missing
  return run_with<devices::cuda::MslSession>(run);
}

void run_run(Run& run) {
  prepare(run);
  const devices::MslOutcome outcome = run_on_device(run);
  base::OrderedJson arrays = base::OrderedJson::array();
  for (size_t i = run.inputs.size(); i < run.request.arrays.size(); ++i) {
    arrays.push_back(summary(run.request.arrays[i]));
    if (!run.save.empty()) save(run.request.arrays[i], run.save);
  }
  if (run.json)
    std::printf("%s\n", base::OrderedJson{{"seconds", outcome.report.seconds},
                                          {"outputs", arrays},
                                          {"findings", outcome.findings}}
                            .dump(2)
                            .c_str());
  else
    for (const auto& one : arrays) print_array(one);
  if (outcome.findings.empty()) {
    std::fprintf(stderr, "%s: %.3f ms%s\n", run.device.c_str(), 1e3 * outcome.report.seconds,
                 run.checks.empty() ? "" : ", nothing found");
    return;
  }
  std::string text = std::to_string(outcome.findings.size()) + " findings";
  for (const std::string& one : outcome.findings) text += "\n" + one;
  base::fail("msl", text);
}

// ---- to-cuda

struct ToCuda {
  MslSource source;
  std::string headers, kernel;
};

void run_to_cuda(const ToCuda& given) {
  MslText text = read_msl(given.source, {}, {});
  text.translate.only = given.kernel;
  const msl::Unit unit = msl::parse(given.source.file, text.text, text.preprocess);
  const msl::Translation made = msl::translate(unit, msl::Target::cuda, text.translate);
  if (!given.kernel.empty()) devices::find_kernel(made, given.kernel);  // says which there are
  if (!given.headers.empty()) msl::write_prelude(given.headers);
  for (const std::string& note : made.notes) std::fprintf(stderr, "%s\n", note.c_str());
  std::fputs(made.text.c_str(), stdout);
}

void add_run(CLI::App& parent) {
  CLI::App* verb = parent.add_subcommand(
      "run", "Run one kernel on the CPU, its threads as fibers, or on an NVIDIA GPU");
  const auto run = std::make_shared<Run>();
  add_msl_source(*verb, run->source);
  add_msl_body(*verb, run->source);
  verb->add_option("--fn", run->request.kernel, "The kernel, if the source has several");
  verb->add_option("--grid", run->grid, "Threads in x [y [z]]")->required()->delimiter(',');
  verb->add_option("--threadgroup", run->threadgroup, "Threads of a threadgroup in x [y [z]]")
      ->required()
      ->delimiter(',');
  verb->add_option("--in", run->inputs, kInputForm);
  verb->add_option("--out", run->outputs, kOutputForm);
  verb->add_option("--save", run->save, "Folder for the elements of each output, as NAME.bin");
  verb->add_option("--group-bytes", run->request.group_bytes, "Bytes of each threadgroup argument");
  verb->add_option("--device", run->device, "simt (this CPU), cuda or cuda:1")
      ->transform(devices::choose_device);
  verb->add_option("--check", run->checks, "races, memory")->delimiter(',');
  verb->add_option("--order", run->order, "In which threads run: forward, reverse, random");
  verb->add_option("--seed", run->seed, "Of inputs and of the random order");
  run->request.launch.timeout_s = 60;
  verb->add_option("--timeout", run->request.launch.timeout_s, "Seconds; 0: none");
  verb->add_option("--cores", run->request.launch.cores, "0: all");
  verb->add_flag("--fibers", run->request.launch.fibers, "Fibers even where a loop would do");
  verb->add_flag("--debug", run->request.debug, "Compile for gdb: not optimised");
  verb->add_flag("--json", run->json, "Outputs as JSON");
  verb->callback([run] { run_run(*run); });
}

}  // namespace

void add_msl(CLI::App& app) {
  CLI::App* msl = app.add_subcommand("msl", "Metal kernels: check, run, translate to CUDA");
  msl->require_subcommand(1);
  CLI::App* check =
      msl->add_subcommand("check", "Say which functions are valid Metal, and why not");
  const auto checking = std::make_shared<Check>();
  add_msl_source(*check, checking->source);
  add_msl_body(*check, checking->source);
  check->add_option("--in", checking->inputs, kInputForm)->group("Bodies of metal_kernel");
  check->add_option("--out", checking->outputs, kOutputForm)->group("Bodies of metal_kernel");
  check->add_flag("--json", checking->json, "As JSON");
  check->callback([checking] { run_check(*checking); });
  add_run(*msl);
  CLI::App* cuda = msl->add_subcommand("to-cuda", "Print the source as CUDA");
  const auto to_cuda = std::make_shared<ToCuda>();
  add_msl_source(*cuda, to_cuda->source);
  cuda->add_option("--headers", to_cuda->headers, "Write the headers that it includes to a folder");
  cuda->add_option("--fn", to_cuda->kernel,
                   "This kernel and what it needs; without it all of them");
  cuda->callback([to_cuda] { run_to_cuda(*to_cuda); });
}

}  // namespace mlx_kd::cli
