#include "mlx_kd/discover/run/run_setup.h"

#include <cstdio>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/devices/null/proxy_device.h"
#include "mlx_kd/discover/run/warm_start.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/shapes/sizes.h"

namespace mlx_kd::discover {
namespace {

// Only what the user gave: an option left out is the strategy's own affair.
base::Json walk_options(const RunRequest& request, const spec::Op& op) {
  base::Json result = {{"strategy", request.strategy}, {"batch", request.batch}};
  const search::StrategyOptions& options = request.strategy_options;
  const auto put = [&](const char* name, const auto& value) {
    if (value) result[name] = *value;
  };
  put("neighbors", options.neighbors);
  put("knn", options.knn);
  put("tours", options.tours);
  put("exploit_fraction", options.exploit_fraction);
  put("novelty_fraction", options.novelty_fraction);
  put("min_tour_gap", options.min_tour_gap);
  for (const auto& run : request.warm_start) result["warm_start"].push_back(run.string());
  if (request.allow_approximate) result["allow_approximate"] = true;
  if (request.null_times) result["times"] = "null";
  if (!request.prove_on.empty()) result["prove_on"] = request.prove_on;
  for (const shapes::DimRange& range : request.ranges)
    (range.dim == op.batch_dim ? result["row_range"] : result["ranges"][range.dim]) = {range.lo,
                                                                                       range.hi};
  return result;
}

archive::RunMeta make_meta(const RunRequest& request, const spec::Op& op,
                           const shapes::Sizes& sizes, const spec::DeviceId& device,
                           const evaluate::Evaluator& evaluator) {
  archive::RunMeta meta;
  meta.op_name = request.op_name;
  meta.seed = request.seed;
  meta.budget = request.budget;
  meta.dtype = spec::name_of(request.dtype);
  meta.shape_suite = sizes.suite_name;
  meta.sizes = sizes.sizes;
  meta.device = request.device;
  meta.runtime = evaluator.runtime();
  meta.target = device.target;
  meta.protocol = evaluator.protocol_name();
  meta.protocol_settings = evaluator.protocol();
  meta.options = walk_options(request, op);
  if (op.description.is_null()) return meta;
  meta.options["kernel"] = base::sha256_hex(op.description.dump());
  meta.extra["kernel"] = op.description;
  return meta;
}

std::unique_ptr<evaluate::Evaluator> open_evaluator(const RunRequest& request, const spec::Op& op,
                                                    const shapes::Sizes& sizes) {
  evaluate::EvaluateOptions options;
  options.seed = request.seed;
  options.warmup = request.warmup;
  options.iters = request.iters;
  options.claim_processes = request.claim_processes;
  options.params = spec::default_scalars(op);
  options.null_times = request.null_times;
  options.prove_on = request.prove_on;
  if (request.sanitize) options.sanitizer = evaluate::find_sanitizer(request.device);
  return evaluate::make_evaluator({&op, request.device, request.dtype, sizes.sizes}, options);
}

const RunRequest& checked(const RunRequest& request) {
  if (request.budget == 0)
    base::misuse("discover", "a budget of 0 evaluates nothing: give --budget 50, say");
  if (request.batch == 0)
    base::misuse("discover", "a batch of 0 evaluates nothing: give --batch 8, say");
  if (request.out.empty())
    base::misuse("discover", "there is no folder for the run: give --out runs/NAME");
  if (!request.prove_on.empty() && request.prove_on != request.device && !request.null_times)
    base::misuse("discover", "what is proved on '" + request.prove_on + "' cannot be timed on '" +
                                 request.device + "': add --times null, or leave out --prove-on");
  return request;
}

// The device that kernels are sought for; where nothing is timed, one in its place.
std::shared_ptr<const devices::Device> open_target(const RunRequest& request) {
  if (!request.null_times || request.device == "null") return devices::open_device(request.device);
  return devices::null::stand_in(request.device,
                                 request.prove_on.empty() ? request.device : request.prove_on);
}

shapes::Sizes sizes_of(const RunRequest& request, const spec::Op& op) {
  const shapes::Sizes sizes =
      request.sizes ? *request.sizes
                    : shapes::sizes_from(op, request.suite, request.shapes, kernels::all_ops());
  return shapes::with_ranges(op, sizes, request.ranges);
}

// Of a space too large to walk, the search knows a part.
void tell_if_sampled(const search::Points& points, Listener& listener) {
  if (!points.sampled()) return;
  char raw[32];
  std::snprintf(raw, sizeof raw, "%.3g", points.raw_size());
  listener.note("[search] the space has " + std::string(raw) +
                " combinations of knobs, too many to walk: the search chooses among " +
                std::to_string(points.size()) +
                " valid ones drawn at random, each with the same chance");
}

// What a reader of the times has to know.
std::vector<std::string> remarks_on(const spec::Op& op, const std::string& device) {
  std::string updated;
  for (const spec::Port& port : op.outputs)
    if (!port.updates.empty()) updated += (updated.empty() ? "" : ", ") + port.updates;
  if (updated.empty() || !devices::copies_updates(device)) return {};
  return {"On the device " + device + " MLX copies what this operator updates (" + updated +
          ") before every call; on other devices it is updated in place."};
}

std::unique_ptr<search::Strategy> open_strategy(const RunRequest& request,
                                                const search::Points& points) {
  auto options = request.strategy_options;
  options.budget = request.budget;
  return search::make_strategy(request.strategy, points, options, request.seed);
}

CandidateSpace open_space(const RunRequest& request, const RunSetup& setup, Listener& listener) {
  devices::check_types(*setup.device, setup.op, request.dtype, setup.sizes.sizes.front());
  listener.stage("enumerating the kernels of " + setup.op.name);
  return CandidateSpace(setup.op, setup.device->languages(), request.dtype,
                        setup.device->id().traits, setup.sizes.sizes.front(),
                        request.allow_approximate);
}

}  // namespace

RunSetup::RunSetup(const RunRequest& request, Listener& listener)
    : start_ns(base::steady_ns()),
      op(kernels::find_op(checked(request).op_name)),
      sizes(sizes_of(request, op)),
      device(open_target(request)),
      space(open_space(request, *this, listener)),
      points(search::Points::enumerate(space.space())),
      features(points),
      remarks(remarks_on(op, request.device)) {
  tell_if_sampled(points, listener);
  strategy = open_strategy(request, points);
  for (const auto& note : warm_start(*strategy, space, points, op.name, request.warm_start))
    listener.note(note);
  listener.stage("computing references for " + std::to_string(sizes.sizes.size()) + " sizes, " +
                 std::to_string(points.size()) + " kernels to choose from");
  evaluator = open_evaluator(request, op, sizes);
  meta = make_meta(request, op, sizes, device->id(), *evaluator);
}

bool RunSetup::goes_on(const RunRequest& request, uint64_t done) const {
  if (done == 0) return true;
  if (request.time_budget_s > 0 && base::seconds_since(start_ns) >= request.time_budget_s)
    return false;
  const auto gain = strategy->expected_gain();
  return request.min_gain <= 0 || !gain || *gain >= request.min_gain;
}

}  // namespace mlx_kd::discover
