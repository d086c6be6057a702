// kd tune: a kernel of the user's own, tuned and proved like those of the table.
#include <algorithm>
#include <cstdio>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/cli/run_options.h"
#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/discover/run/pause.h"
#include "mlx_kd/evaluate/evaluator.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/user_kernel.h"
#include "mlx_kd/shapes/sizes.h"

namespace mlx_kd::cli {
namespace {

struct TuneVerb : RunOptions {
  kernels::UserKernelFiles files;
  std::string file, config, device, pause;
};

constexpr const char* kTuneExample =
    "Example:\n"
    "  kd tune softmax.metal --fn softmax_rows --ref softmax.py --shapes 'rows=1|64|1024,D=4096' "
    "--budget 100 --out runs/softmax\n"
    "The head of the file says what it needs, in comments (docs/tune-your-own.md):\n"
    "  // kd: in x (rows, D)      an input and its shape; `out` for an output\n"
    "  // kd: grid (rows * TG)    threads; `group (TG)` for those of a threadgroup\n"
    "  // kd: where TG <= D       a constraint\n"
    "  #ifndef TG\n"
    "  #define TG 256             // knob: 64, 128, 256\n"
    "  #endif\n";

bool is_available(const std::string& kind) {
  for (const auto& report : devices::list_devices())
    if (report.kind == kind) return report.available;
  return false;
}

void tell_of_the_executor(const kernels::UserKernel& kernel) {
  std::fprintf(stderr,
               "[tune] no GPU here: %s is tuned on simt, which runs Metal kernels on the CPU; its "
               "times and pins are for simt alone\n",
               kernel.function.c_str());
}

// The device that was named, or the best one here that takes the kernel.
std::string device_for(const kernels::UserKernel& kernel, const std::string& given) {
  if (!given.empty()) return given;
  if (kernel.language == "cpp") return "cpu";
  if (kernel.language == "cuda") return "cuda";
  for (const char* kind : {"metal", "cuda"})
    if (is_available(kind)) return kind;
  return "simt";
}

std::string dtype_for(const kernels::UserKernel& kernel, const std::string& given) {
  if (given.empty()) return kernel.type.empty() ? "float32" : kernel.type;
  if (!kernel.type.empty() && kernel.type != given)
    base::misuse("tune", kernel.function + " is written for " + kernel.type + " and --dtype is " +
                             given +
                             ": leave it out, or have the type vary (#define T float  // "
                             "type)");
  return given;
}

std::vector<spec::Dims> sizes_for(const kernels::UserKernel& kernel,
                                  const std::vector<std::string>& shapes) {
  const spec::Op op = kernels::sized_op(kernel);
  if (!shapes.empty()) return shapes::sizes_from(op, "", shapes).sizes;
  if (kernel.sizes.empty())
    base::misuse("tune", "no sizes are given: write --shapes, for example '" +
                             op.dim_names().front() + "=1|64" +
                             (op.dims.size() > 1 ? "," + op.dims[1].name + "=4096" : "") + "'");
  std::vector<spec::Dims> result;
  for (const spec::Dims& size : kernel.sizes) result.push_back(shapes::checked_size(op, size));
  return result;
}

// "is wrong", "does not compile".
std::string verdict_text(spec::Status status) {
  switch (status) {
    case spec::Status::compile_error:
      return "does not compile";
    case spec::Status::launch_error:
      return "cannot be launched";
    default:
      return "is " + std::string(spec::name_of(status));
  }
}

// Proves the default setting at the smallest size, so that a wrong kernel is reported before the
// budget is spent.
void check_defaults(const TuneVerb& options, const kernels::UserKernel& kernel, const spec::Op& op,
                    spec::Dtype dtype) {
  const auto device = devices::open_device(options.request.device);
  const spec::Variant& variant = op.variants.front();
  const spec::Space space = variant.space(dtype, device->id().traits);
  const spec::Setting knobs = spec::default_setting(space);
  if (!spec::is_valid(space, knobs)) return;
  const auto& sizes = options.request.sizes->sizes;
  const auto bytes = [&](const spec::Dims& size) { return spec::cost_of(op, size, dtype).bytes; };
  const spec::Dims smallest =
      *std::min_element(sizes.begin(), sizes.end(),
                        [&](const auto& a, const auto& b) { return bytes(a) < bytes(b); });
  evaluate::EvaluateOptions how;
  how.seed = options.request.seed;
  how.prove_only = true;
  const auto evaluator =
      evaluate::make_evaluator({&op, options.request.device, dtype, {smallest}}, how);
  evaluator->evaluate({spec::make_candidate(op, variant, dtype, knobs, space, smallest)},
                      [&](size_t, const spec::Verdict& verdict) {
                        if (verdict.status != spec::Status::benchmarked)
                          base::fail("tune", "at its defaults (" + knobs.text() + ") the kernel " +
                                                 verdict_text(verdict.status) + ": " +
                                                 kernels::in_user_files(kernel, verdict.reason) +
                                                 (verdict.status == spec::Status::wrong
                                                      ? "; correct it, or what it is held against"
                                                      : "; correct it"));
                      });
}

void prepare_tune(TuneVerb& options, const std::atomic<bool>& cancelled) {
  const auto pause = [&] {
    discover::wait_while_in_use(options.pause, [&] { return cancelled.load(); });
  };
  options.files.file = options.file;
  options.files.config = options.config;
  options.request.pause_file = options.pause;
  options.request.from_default = true;
  kernels::UserKernel kernel = kernels::read_user_kernel(options.files);
  options.request.device = device_for(kernel, options.device);
  options.dtype = dtype_for(kernel, options.dtype);
  kernels::set_sizes(kernel, sizes_for(kernel, options.shapes));
  pause();
  kernels::try_reference(kernel, spec::parse_float_dtype(options.dtype));
  const spec::Op& op = kernels::add_user_op(kernel);
  options.request.op_name = op.name;
  options.request.sizes = {"custom", kernel.sizes};
  if (options.device.empty() && options.request.device == "simt") tell_of_the_executor(kernel);
  const bool is_invented = options.request.device == "null" || options.request.null_times;
  pause();
  if (!options.request.resume && !is_invented)
    check_defaults(options, kernel, op, spec::parse_float_dtype(options.dtype));
}

// The run is about the texts as they were read.
void tell_if_changed(const TuneVerb& options, const std::string& before) {
  if (base::read_file(options.file, "tune") != before)
    std::fprintf(stderr,
                 "[tune] %s has changed since the run began: the winners are of the text as it was "
                 "then\n",
                 options.file.c_str());
}

void tune(TuneVerb& options) {
  const std::string before = base::read_file(options.file, "tune");
  execute_run(options,
              [&](const std::atomic<bool>* cancelled) { prepare_tune(options, *cancelled); });
  tell_if_changed(options, before);
}

}  // namespace

void add_tune(CLI::App& app) {
  auto options = std::make_shared<TuneVerb>();
  options->request.budget = 100;
  CLI::App* verb = app.add_subcommand(
      "tune", "Tune a kernel of your own: prove and time its knobs, pin the best");
  verb->footer(kTuneExample);
  verb->add_option("file", options->file, "The kernel: a .metal, .cu or .cpu.cpp file")->required();
  verb->add_option("--fn", options->files.function,
                   "The kernel's function; of a metal_kernel body, the name that it shall have");
  verb->add_option("--ref", options->files.reference,
                   "What it computes: an operator (kd ops), FILE.py[:FUNCTION], or recorded arrays "
                   "(.npz, .safetensors)");
  verb->add_option("--judge", options->files.judge,
                   "bound, close:rtol=1e-3,atol=1e-5 or exact (bound; close for recorded arrays)");
  verb->add_option(
      "--shapes", options->shapes,
      "Sizes, as 'rows=1|64|1024,D=4096' (repeatable; | lists values), or a JSON file");
  verb->add_option("--dtype", options->dtype,
                   "float32, float16 or bfloat16 (the kernel's own, else float32)");
  verb->add_option("--device", options->device, "Where to run (metal, else cuda, else simt)")
      ->transform(devices::choose_device);
  verb->add_option("--name", options->files.name, "Name of the operator in pins (the function's)");
  verb->add_option("--config", options->config,
                   "TOML file that describes the kernel (FILE.toml next to it, if there is one)");
  verb->add_option("--pause", options->pause,
                   "Wait before each step while this file was changed within the last second");
  add_run_options(*verb, *options);
  verb->callback([options] { tune(*options); });
}

}  // namespace mlx_kd::cli
