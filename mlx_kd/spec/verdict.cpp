#include "mlx_kd/spec/verdict.h"

#include <array>
#include <utility>

#include "mlx_kd/base/error.h"
#include "mlx_kd/spec/claim.h"

namespace mlx_kd::spec {
namespace {

constexpr std::array<std::pair<Status, const char*>, 8> kStatuses = {{
    {Status::benchmarked, "benchmarked"},
    {Status::compile_error, "compile_error"},
    {Status::launch_error, "launch_error"},
    {Status::wrong, "wrong"},
    {Status::unstable, "unstable"},
    {Status::timeout, "timeout"},
    {Status::crashed, "crashed"},
    {Status::suspicious, "suspicious"},
}};

using Field = std::pair<const char*, double Metrics::*>;
constexpr std::array<Field, 17> kFields = {{
    {"latency_us", &Metrics::latency_us},
    {"p10_us", &Metrics::p10_us},
    {"p90_us", &Metrics::p90_us},
    {"single_us", &Metrics::single_us},
    {"kernel_us", &Metrics::kernel_us},
    {"baseline_us", &Metrics::baseline_us},
    {"speedup_vs_ref", &Metrics::speedup_vs_ref},
    {"speedup_lo", &Metrics::speedup_lo},
    {"speedup_hi", &Metrics::speedup_hi},
    {"expect_lo", &Metrics::expect_lo},
    {"expect_hi", &Metrics::expect_hi},
    {"gbps_est", &Metrics::gbps_est},
    {"correctness_max_abs_err", &Metrics::correctness_max_abs_err},
    {"correctness_max_rel_err", &Metrics::correctness_max_rel_err},
    {"error_bound_used", &Metrics::error_bound_used},
    {"compile_time_ms", &Metrics::compile_time_ms},
    {"log_ratio", &Metrics::log_ratio},
}};

// Times are averaged as ratios are: geometrically. Errors: the worst. NaN if no size measured it.
double mean_log(const std::vector<SizeMetrics>& sizes, double Metrics::*field, bool already_log) {
  double sum = 0;
  for (const auto& size : sizes)
    sum += already_log ? size.metrics.*field : std::log(size.metrics.*field);
  const double mean = sum / static_cast<double>(sizes.size());
  return already_log ? mean : std::exp(mean);
}

double largest(const std::vector<SizeMetrics>& sizes, double Metrics::*field) {
  double result = kUnmeasured;
  for (const auto& size : sizes) result = std::fmax(result, size.metrics.*field);
  return result;
}

}  // namespace

std::string name_of(Status status) {
  for (const auto& [value, name] : kStatuses)
    if (value == status) return name;
  return "";
}

const std::vector<Status>& all_statuses() {
  static const std::vector<Status> all = [] {
    std::vector<Status> result;
    for (const auto& entry : kStatuses) result.push_back(entry.first);
    return result;
  }();
  return all;
}

Status parse_status(std::string_view name) {
  std::vector<std::string> known;
  for (const auto& [value, text] : kStatuses) {
    if (text == name) return value;
    known.emplace_back(text);
  }
  base::misuse("spec",
               "status '" + std::string(name) + "' is not known: expected " + base::list_of(known));
}

base::Json to_json(const Metrics& metrics) {
  base::Json result = {{"bit_exact", metrics.bit_exact}, {"cold", metrics.cold}};
  for (const auto& [name, field] : kFields)
    if (std::isfinite(metrics.*field)) result[name] = metrics.*field;
  return result;
}

Metrics metrics_from_json(const base::Json& value) {
  Metrics result;
  for (const auto& [name, field] : kFields)
    if (auto found = value.find(name); found != value.end() && found->is_number())
      result.*field = found->get<double>();
  result.bit_exact = value.value("bit_exact", false);
  result.cold = value.value("cold", false);
  return result;
}

void summarise(Verdict& verdict) {
  const auto& sizes = verdict.sizes;
  if (sizes.empty()) return;
  Metrics& all = verdict.metrics;
  for (auto field : {&Metrics::latency_us, &Metrics::p10_us, &Metrics::p90_us, &Metrics::single_us,
                     &Metrics::kernel_us, &Metrics::baseline_us, &Metrics::speedup_vs_ref,
                     &Metrics::speedup_lo, &Metrics::speedup_hi, &Metrics::gbps_est})
    all.*field = mean_log(sizes, field, false);
  for (auto field : {&Metrics::correctness_max_abs_err, &Metrics::correctness_max_rel_err,
                     &Metrics::error_bound_used})
    all.*field = largest(sizes, field);
  all.log_ratio = verdict.objective = mean_log(sizes, &Metrics::log_ratio, true);
  all.bit_exact = true;
  for (const auto& size : sizes) all.bit_exact = all.bit_exact && size.metrics.bit_exact;
  for (const auto& size : sizes) all.cold = all.cold || size.metrics.cold;
}

std::string name_of(ClaimKind kind) {
  return kind == ClaimKind::mlx_cannot ? "mlx_cannot" : "faster_than_mlx";
}

ClaimKind parse_claim_kind(std::string_view name) {
  for (const ClaimKind kind : {ClaimKind::faster_than_mlx, ClaimKind::mlx_cannot})
    if (name_of(kind) == name) return kind;
  base::misuse("spec", "claim kind '" + std::string(name) +
                           "' is not known: choose 'faster_than_mlx' or 'mlx_cannot'");
}

}  // namespace mlx_kd::spec
