// kd run: discover, prove and pin.
#include "mlx_kd/discover/run.h"

#include <cstdio>

#include "mlx_kd/base/error.h"
#include "mlx_kd/cli/command.h"
#include "mlx_kd/cli/console.h"
#include "mlx_kd/cli/progress.h"
#include "mlx_kd/cli/signals.h"
#include "mlx_kd/cli/size_options.h"
#include "mlx_kd/cli/table.h"
#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/discover/cluster/agreement.h"
#include "mlx_kd/discover/cluster/folders.h"
#include "mlx_kd/discover/cluster/run_as_rank.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::cli {
namespace {

constexpr int kInterrupted = 130;  // as by Ctrl-C, on ranks whose user did not press it

struct RunOptions {
  discover::RunRequest request;
  std::string dtype = "float16", out, bench_mode, time_budget;
  std::string row_range;
  std::vector<std::string> shapes, warm_start, ranges;
  SizeOptions sizes;
  bool json = false, quiet = false;
};

// Sizes of a model or a log, where --shapes is left out or `auto`.
void find_sizes(RunOptions& options, const std::atomic<bool>* cancelled) {
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

std::string sureness(const discover::SizeResult& size) {
  if (!size.claim) return "no kernel passed";
  const auto& m = size.claim->metrics;
  if (size.won && size.claim->kind == spec::ClaimKind::mlx_cannot) return "MLX cannot do this here";
  const std::string interval = fixed(m.speedup_lo, 2) + " to " + fixed(m.speedup_hi, 2);
  return size.won ? interval
                  : "no pin: " + (size.claim->reason.empty() ? interval : size.claim->reason);
}

// What 95 of 100 processes see.
std::string expected(const spec::Metrics& m) {
  if (!std::isfinite(m.expect_lo)) return "-";
  return fixed(m.expect_lo, 2) + " to " + fixed(m.expect_hi, 2);
}

std::string outcome_table(const discover::RunOutcome& outcome) {
  std::vector<std::vector<std::string>> rows = {{"size", "kernel us", "in a graph us", "MLX us",
                                                 "speed-up", "95% CI", "a new process", "kernel",
                                                 "knobs"}};
  for (const auto& size : outcome.sizes) {
    const spec::Metrics m = size.claim ? size.claim->metrics : spec::Metrics{};
    rows.push_back({size.dims.text(), fixed(m.kernel_us, 2), fixed(m.latency_us, 2),
                    fixed(m.baseline_us, 2), times(m.speedup_vs_ref), sureness(size),
                    size.won ? expected(m) : "-", size.claim ? size.claim->candidate_id : "-",
                    size.knobs});
  }
  return table_text(rows);
}

// "rows 1 to 512 with D=2048: rmsnorm_0123456789abcdef, faster than MLX at 1, 3, 12, ..."; of
// several dims "rows 1 to 512, S 1 to 64 with ...: ..., faster than MLX at rows 1, 3, ..; S 1, ..".
std::string range_text(const discover::RangeResult& range, const spec::Op& op) {
  std::string dims, samples;
  shapes::DimRanges ranges;
  for (const auto& [dim, values] : range.ranges) {
    ranges.push_back({dim, values.lo, values.hi});
    dims += (dims.empty() ? "" : ", ") + dim + " " + std::to_string(values.lo) + " to " +
            std::to_string(values.hi);
    if (range.ranges.size() > 1) samples += (samples.empty() ? " " : "; ") + dim;
    for (size_t i = 0; i < values.sampled.size(); ++i)
      samples += (i ? ", " : " ") + std::to_string(values.sampled[i]);
  }
  const std::string rest = shapes::rest_of(op, ranges, range.dims);
  return dims + (rest.empty() ? "" : " with " + rest) + ": " + range.candidate_id +
         ", faster than MLX at" + samples + "\n";
}

std::string ranges_text(const RunOptions& options, const discover::RunOutcome& outcome) {
  if (options.request.ranges.empty()) return "";
  if (outcome.ranges.empty())
    return "no kernel was surely faster than MLX at two neighbouring sampled sizes: no range\n";
  std::string text;
  for (const auto& range : outcome.ranges)
    text += range_text(range, kernels::find_op(options.request.op_name));
  return text;
}

base::Json outcome_json(const discover::RunOutcome& outcome, const spec::Op& op,
                        const std::string& out) {
  base::Json result = {{"out", out},
                       {"evaluated", outcome.evaluated},
                       {"benchmarked", outcome.benchmarked},
                       {"seconds", outcome.seconds},
                       {"sizes", base::Json::array()}};
  for (const auto& size : outcome.sizes) {
    base::Json row = {{"shape", size.dims.json()}, {"won", size.won}};
    if (size.claim)
      row.update({{"candidate_id", size.claim->candidate_id},
                  {"baseline", size.claim->baseline},
                  {"reason", size.claim->reason},
                  {"metrics", spec::to_json(size.claim->metrics)}});
    result["sizes"].push_back(row);
  }
  for (const auto& range : outcome.ranges) result["ranges"].push_back(to_json(range, op));
  if (!outcome.remarks.empty()) result["remarks"] = outcome.remarks;
  return result;
}

void print_outcome(const RunOptions& options, const discover::RunOutcome& outcome) {
  if (options.json)
    return print(
        outcome_json(outcome, kernels::find_op(options.request.op_name), options.out).dump(2) +
        "\n");
  print(outcome_table(outcome) + ranges_text(options, outcome));
  for (const std::string& remark : outcome.remarks) print(remark + "\n");
  std::fprintf(stderr,
               "%llu kernels tried, %llu correct and timed, in %s. Report: %s/report.html\n",
               static_cast<unsigned long long>(outcome.evaluated),
               static_cast<unsigned long long>(outcome.benchmarked),
               duration(outcome.seconds).c_str(), options.out.c_str());
  const bool won =
      std::any_of(outcome.sizes.begin(), outcome.sizes.end(), [](const auto& s) { return s.won; });
  if (won && options.request.device != "null" && !options.request.null_times)
    std::fprintf(stderr, "Next: %s install --run %s --output pins.json\n", command().c_str(),
                 options.out.c_str());
  else
    std::fprintf(stderr, "Next: %s report --run %s --open\n", command().c_str(),
                 options.out.c_str());
}

// As a rank where a launcher started several, or where one goes on with what several began.
discover::RunOutcome run_alone_or_as_rank(RunOptions& options,
                                          std::unique_ptr<discover::Ranks>& ranks,
                                          discover::Interrupt& interrupt,
                                          const std::atomic<bool>& cancelled) try {
  if (!ranks && options.request.resume && discover::has_ranks(options.request.out))
    ranks = std::make_unique<discover::Ranks>();
  if (!ranks) {
    find_sizes(options, &cancelled);
    Progress progress(options.request.budget, options.quiet);
    return discover::run(options.request, progress, interrupt);
  }
  discover::meet_all(*ranks, false, [&] {
    find_sizes(options, &cancelled);
    return std::string();
  });
  Progress progress(options.request.budget, options.quiet);
  return discover::run_as_rank(options.request, *ranks, progress, interrupt);
} catch (const discover::ReportedElsewhere& reported) {
  throw Exit{reported.exit_code};
} catch (const discover::Stopped&) {
  throw Exit{kInterrupted};
}

void execute(RunOptions& options) {
  options.request.dtype = spec::parse_float_dtype(options.dtype);
  options.request.out = options.out;
  options.request.warm_start.assign(options.warm_start.begin(), options.warm_start.end());
  if (!options.row_range.empty() || !options.ranges.empty())
    options.request.ranges = shapes::parse_ranges(kernels::find_op(options.request.op_name),
                                                  options.ranges, options.row_range);
  if (!options.time_budget.empty())
    options.request.time_budget_s = parse_duration(options.time_budget);
  if (!options.bench_mode.empty())
    std::fprintf(stderr,
                 "[cli] --bench-mode %s is read and has no effect: the protocol pairs always\n",
                 options.bench_mode.c_str());
  discover::Interrupt interrupt;
  std::atomic<bool> cancelled{false};
  const SignalWatch signals([&] {
    cancelled = true;
    interrupt.raise();
  });
  auto ranks = discover::join_ranks([&] { interrupt.raise(); });
  const bool first = !ranks || ranks->rank() == 0;
  options.quiet = options.quiet || !first;
  const discover::RunOutcome outcome = run_alone_or_as_rank(options, ranks, interrupt, cancelled);
  if (outcome.interrupted) {
    if (first)
      std::fprintf(stderr, "Stopped after %llu kernels; go on with the same command and --resume\n",
                   static_cast<unsigned long long>(outcome.evaluated));
    const int code = signals.exit_code();
    throw Exit{code ? code : kInterrupted};
  }
  if (first) print_outcome(options, outcome);
}

// The search's own settings are better than any of these; they are for those who want to try.
void add_search_options(CLI::App& verb, RunOptions& options) {
  auto& search = options.request.strategy_options;
  const std::string group = "Search (left out: the strategy's own setting)";
  verb.add_option("--strategy", options.request.strategy,
                  "How to choose what to try: tours, random, exhaustive, ...")
      ->capture_default_str()
      ->group(group);
  verb.add_option(
          "--min-gain", options.request.min_gain,
          "Stop when going on promises less than this gain, one chance in twenty aside: 0.01 "
          "for 1 % (off)")
      ->check(CLI::Range(0.0, 1.0))
      ->group(group);
  verb.add_option(
          "--warm-start", options.warm_start,
          "Earlier runs of the op, or packs of its winners, of other sizes, types or devices, "
          "to learn from")
      ->group(group);
  verb.add_option("--batch", options.request.batch, "Candidates proposed and compiled together")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024))
      ->group(group);
  verb.add_option("--neighbors", search.neighbors, "Graph moves looked at round each of the best")
      ->group(group);
  verb.add_option("--knn", search.knn, "Edges of a point in the nearest-neighbour graph")
      ->group(group);
  verb.add_option("--tours", search.tours, "Hamiltonian tours in the union")->group(group);
  verb.add_option("--exploit-fraction", search.exploit_fraction,
                  "Share of a batch for neighbours of the best")
      ->group(group);
  verb.add_option("--novelty-fraction", search.novelty_fraction, "Share of a batch for far points")
      ->group(group);
  verb.add_option("--min-tour-gap", search.min_tour_gap,
                  "Least distance along a tour between two stops")
      ->group(group);
}

const std::map<std::string, int> kClaims = {{"quick", 1}, {"normal", 7}, {"long", 21}};

void add_measuring_options(CLI::App& verb, RunOptions& options) {
  const std::string group = "Measuring";
  verb.add_option("--warmup", options.request.warmup,
                  "Least number of untimed calls before a sample")
      ->check(CLI::Range(0, 1000000))
      ->group(group);
  verb.add_option("--iters", options.request.iters, "Least number of samples of a candidate")
      ->check(CLI::Range(0, 1000000))
      ->group(group);
  verb.add_option("--finalists", options.request.finalists,
                  "Candidates per size that are re-measured against MLX")
      ->capture_default_str()
      ->check(CLI::Range(1, 100))
      ->group(group);
  verb.add_option_function<std::string>(
          "--claims",
          [&options](const std::string& how) { options.request.claim_processes = kClaims.at(how); },
          "How surely a winner is measured: in 1 process (quick), 7 (normal) or 21 (long, which "
          "finds 5 %) (normal)")
      ->check(CLI::IsMember({"quick", "normal", "long"}))
      ->group(group);
  verb.add_option("--prove-on", options.request.prove_on,
                  "Prove on another device (simt, say) where --device is not here; needs --times "
                  "null")
      ->group(group);
  verb.add_option_function<std::string>(
          "--times",
          [&options](const std::string& which) { options.request.null_times = which == "null"; },
          "measured, or null: invented, so that the winners are not pins for use (measured)")
      ->check(CLI::IsMember({"measured", "null"}))
      ->group(group);
  verb.add_option("--bench-mode", options.bench_mode,
                  "Accepted for compatibility with zmlx.kd and ignored: candidates are always "
                  "timed in pairs")
      ->check(CLI::IsMember({"interleaved", "legacy"}))
      ->group(group);
}

}  // namespace

void add_run(CLI::App& app) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* verb = app.add_subcommand(
      "run",
      "Discover the fastest kernels of an operator: try, prove, time, pin. Started several times "
      "by "
      "mlx.launch or mpirun, the ranks share the work: mlx.launch -n 4 -- kd run ... "
      "(docs/cluster.md)");
  discover::RunRequest& request = options->request;
  verb->add_option("--op", request.op_name, "The operator (kd ops lists them)")->required();
  verb->add_option("--out", options->out, "Folder of the run; made if it is not there")->required();
  verb->add_option("--budget", request.budget, "Candidates to evaluate, each on all sizes")
      ->capture_default_str()
      ->check(CLI::Range(uint64_t{1}, uint64_t{100000000}));
  verb->add_option("--time-budget", options->time_budget,
                   "Stop trying after that long: 60s, 5m, 1h (in addition to --budget)");
  verb->add_option("--seed", request.seed, "Of the search and of the test data")
      ->capture_default_str();
  verb->add_option("--dtype", options->dtype, "float32, float16 or bfloat16")
      ->capture_default_str();
  verb->add_option("--device", request.device, "Where to run (kd devices lists them)")
      ->capture_default_str();
  verb->add_option("--shapes", options->shapes,
                   "Sizes: a suite's name, rows=1,D=4096 (repeatable), a JSON file, or auto (the "
                   "model's); left out: the model's, else the op's first suite");
  verb->add_flag("--allow-approximate", options->request.allow_approximate,
                 "Also try kernels that trade accuracy on purpose; their pins say so");
  verb->add_option("--range", options->ranges,
                   "Sizes of a free dim that one kernel shall serve, as S=1:4096: samples the ends "
                   "and between (repeatable; kd ops --json says which are free)");
  verb->add_option("--row-range", options->row_range,
                   "The same of the batch dim (rows; B for rope), as 1:512");
  verb->add_flag("--resume", request.resume,
                 "Go on with the run in --out, or start it if there is none");
  verb->add_flag("--json", options->json, "The outcome as JSON on stdout");
  verb->add_flag("--quiet", options->quiet, "No progress");
  add_size_options(*verb, options->sizes);
  add_search_options(*verb, *options);
  add_measuring_options(*verb, *options);
  verb->callback([options] { execute(*options); });
}

}  // namespace mlx_kd::cli
