// kd new-op: the folder of an operator, made from a kernel that was tuned.
#include <cstdio>
#include <filesystem>

#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/kernels/new_operator.h"
#include "mlx_kd/shapes/sizes.h"

namespace mlx_kd::cli {
namespace {

namespace fs = std::filesystem;

struct NewOpVerb {
  std::string place, from, tree, config, dtype = "float32";
  kernels::UserKernelFiles files;
  std::vector<std::string> shapes;
  kernels::NewOperator about;
};

constexpr const char* kNewOpExample =
    "Example:\n"
    "  kd tune softmax.metal --fn softmax_rows --ref softmax.py --shapes 'rows=1|64,D=4096' --out "
    "runs/softmax\n"
    "  kd new-op activations/row_softmax runs/softmax\n"
    "writes mlx_kd/kernels/activations/row_softmax/ and its test into a clone of mlx-kd. A kernel "
    "file takes the place of the run if --fn, --ref and --shapes are given.\n";

// The clone that the current folder is in.
fs::path tree_of(const std::string& given) {
  const fs::path start = given.empty() ? fs::current_path() : fs::absolute(given);
  for (fs::path folder = start; folder.has_relative_path(); folder = folder.parent_path())
    if (fs::exists(folder / "mlx_kd" / "kernels" / "op_table.h")) return folder;
  base::misuse("new-op", start.string() +
                             " is not in a clone of mlx-kd, whose tree an operator is added to: "
                             "give its folder with --tree");
}

// A text that does not ask for the type is written for the one that it was tuned in.
void settle_type(kernels::UserKernel& kernel, const std::string& tuned_in) {
  if (kernel.type.empty() && kernel.source.find("KD_DTYPE") == std::string::npos)
    kernel.type = spec::name_of(spec::parse_float_dtype(tuned_in));
}

kernels::UserKernel of_run(const NewOpVerb& options, kernels::NewOperator& about) {
  const archive::RunData run = archive::read_run(options.from);
  const auto description = run.meta.extra.find("kernel");
  if (description == run.meta.extra.end())
    base::misuse("new-op", options.from + " is a run of " + run.meta.op_name +
                               ", which is an operator already: give a run of kd tune");
  if (run.finish)
    for (const archive::Winner& winner : run.finish->winners)
      for (const archive::Record& record : run.records)
        if (record.candidate_id == winner.candidate_id) {
          about.won.push_back(record.candidate.knobs);
          break;
        }
  kernels::UserKernel kernel = kernels::user_kernel_from_json(*description);
  settle_type(kernel, run.meta.dtype);
  return kernel;
}

kernels::UserKernel of_file(NewOpVerb& options) {
  options.files.file = options.from;
  options.files.config = options.config;
  kernels::UserKernel kernel = kernels::read_user_kernel(options.files);
  if (options.shapes.empty())
    base::misuse("new-op", options.from +
                               " has no sizes: give --shapes, which become the suite of the "
                               "operator");
  kernels::set_sizes(kernel,
                     shapes::sizes_from(kernels::sized_op(kernel), "", options.shapes).sizes);
  settle_type(kernel, options.dtype);
  return kernel;
}

void new_op(NewOpVerb& options) {
  const size_t slash = options.place.find('/');
  options.about.family = options.place.substr(0, slash);
  options.about.name = slash == std::string::npos ? "" : options.place.substr(slash + 1);
  const fs::path tree = tree_of(options.tree);
  const kernels::UserKernel kernel =
      archive::is_run_dir(options.from) ? of_run(options, options.about) : of_file(options);
  const auto files = kernels::operator_files(kernel, options.about);
  for (const auto& [path, text] : files)
    if (fs::exists(tree / path))
      base::misuse("new-op", (tree / path).string() + " exists: choose another name, or remove it");
  for (const auto& [path, text] : files) {
    base::write_file_atomically(tree / path, text, "new-op");
    std::printf("%s\n", path.c_str());
  }
  std::fprintf(stderr,
               "Next: ./kd format; ./kd ops --check; ./kd verify --op %s; ./kd test -R %s; "
               "tools/api_reference.py > docs/cpp-api.md\n",
               options.about.name.c_str(), options.about.name.c_str());
}

}  // namespace

void add_new_op(CLI::App& app) {
  auto options = std::make_shared<NewOpVerb>();
  CLI::App* verb =
      app.add_subcommand("new-op", "Make an operator of the library from a tuned kernel");
  verb->footer(kNewOpExample);
  verb->add_option("place", options->place, "FAMILY/NAME, its folder below mlx_kd/kernels")
      ->required();
  verb->add_option("from", options->from, "Run of kd tune, or a .metal, .cu or .cpu.cpp file")
      ->required();
  verb->add_option("--tree", options->tree, "Clone to write into (the one around this folder)");
  verb->add_option("--summary", options->about.summary, "What it computes, as 'y = softmax of x'");
  const std::string group = "Of a kernel file (as of kd tune)";
  verb->add_option("--fn", options->files.function, "The kernel's function")->group(group);
  verb->add_option("--ref", options->files.reference, "An operator, or FILE.py[:FUNCTION]")
      ->group(group);
  verb->add_option("--judge", options->files.judge, "bound, close:rtol=1e-3,atol=1e-5 or exact")
      ->group(group);
  verb->add_option("--shapes", options->shapes, "Sizes, as 'rows=1|64,D=4096' (repeatable)")
      ->group(group);
  verb->add_option("--dtype", options->dtype, "The type that the text is written for (float32)")
      ->group(group);
  verb->add_option("--config", options->config, "TOML file that describes the kernel")
      ->group(group);
  verb->callback([options] { new_op(*options); });
}

}  // namespace mlx_kd::cli
