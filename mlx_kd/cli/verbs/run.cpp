// kd run: discover, prove and pin.
#include "mlx_kd/discover/run/run.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/cli/run_options.h"
#include "mlx_kd/cli/size_options.h"
#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::cli {
namespace {

struct RunVerb : RunOptions {
  SizeOptions sizes;
};

// Sizes of a model or a log, where --shapes is left out or `auto`.
void find_sizes(RunVerb& options, const std::atomic<bool>* cancelled) {
  options.request.dtype = spec::parse_float_dtype(options.dtype);
  const bool is_auto = options.shapes == std::vector<std::string>{"auto"};
  if (!options.sizes.any()) {
    if (is_auto)
      base::misuse("cli",
                   "--shapes auto asks for the sizes of a model: give --model-id or --shape-log");
    // Each --shapes is a suite's name, sizes, or a JSON file.
    for (const std::string& shape : options.shapes) {
      const bool is_suite = shape.find_first_of("=./") == std::string::npos;
      if (is_suite && !options.request.suite.empty() && options.request.suite != shape)
        base::misuse("cli", "two suites are given, '" + options.request.suite + "' and '" + shape +
                                "': choose one");
      if (is_suite)
        options.request.suite = shape;
      else
        options.request.shapes.push_back(shape);
    }
    return;
  }
  if (!options.shapes.empty() && !is_auto)
    base::misuse("cli", "--shapes '" + options.shapes.front() +
                            "' and a model or a shape log are given: choose one");
  const spec::Op& op = kernels::find_op(options.request.op_name);
  const SizeSource source = open_sizes(options.sizes, options.quiet, cancelled);
  const std::string& id = options.sizes.model.model_id;
  const std::string log = options.sizes.shape_log.empty() ? "" : "shape-log";
  options.request.sizes = shapes::Sizes{
      (id.empty() ? "" : "model:" + id) + (id.empty() || log.empty() ? "" : "+") + log,
      chosen_sizes(suggestions(source, op, &options.request.dtype))};
}

}  // namespace

void add_run(CLI::App& app) {
  auto options = std::make_shared<RunVerb>();
  options->dtype = "float16";
  CLI::App* verb = app.add_subcommand(
      "run", "Discover the fastest kernels of an operator: try, prove, time, pin");
  discover::RunRequest& request = options->request;
  verb->add_option("--op", request.op_name, "The operator (kd ops lists them)")->required();
  verb->add_option("--dtype", options->dtype,
                   "float32, float16 or bfloat16; float64 for some operators")
      ->capture_default_str();
  verb->add_option("--device", request.device,
                   "Where to run (kd devices lists them; cuda:1 is the second GPU)")
      ->transform(devices::choose_device)
      ->capture_default_str();
  verb->add_option("--shapes", options->shapes,
                   "Sizes: a suite's name, rows=1|64,D=4096 (repeatable; | lists values), a JSON "
                   "file, or auto (the model's); left out: the model's, else the op's first suite");
  verb->add_flag("--allow-approximate", request.allow_approximate,
                 "Also try kernels that trade accuracy on purpose; their pins say so");
  add_run_options(*verb, *options);
  add_size_options(*verb, options->sizes);
  verb->callback([options] {
    execute_run(*options,
                [&](const std::atomic<bool>* cancelled) { find_sizes(*options, cancelled); });
  });
}

}  // namespace mlx_kd::cli
