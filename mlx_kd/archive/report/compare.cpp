#include "mlx_kd/archive/report/compare.h"

#include <algorithm>
#include <set>

#include "mlx_kd/archive/report/analysis.h"
#include "mlx_kd/archive/text.h"
#include "mlx_kd/base/error.h"

namespace mlx_kd::archive {
namespace {

using base::Json;

std::string sizes_text(const std::vector<spec::Dims>& sizes) {
  std::string text;
  for (const spec::Dims& size : sizes) text += (text.empty() ? "" : "; ") + size.text();
  return text;
}

void refuse_unlike(const RunMeta& a, const RunMeta& b) {
  if (a.op_name != b.op_name)
    base::misuse("archive", "the runs are of op '" + a.op_name + "' and op '" + b.op_name +
                                "': compare two runs of one op");
  const bool same = a.sizes.size() == b.sizes.size() &&
                    std::all_of(a.sizes.begin(), a.sizes.end(), [&](const spec::Dims& dims) {
                      return std::find(b.sizes.begin(), b.sizes.end(), dims) != b.sizes.end();
                    });
  if (!same)
    base::misuse("archive", "the runs are of sizes '" + sizes_text(a.sizes) + "' and '" +
                                sizes_text(b.sizes) + "': compare two runs of the same sizes");
}

// b over a of two independent estimates: relative half-widths add as squares.
Ratio ratio_of(double b, double b_lo, double b_hi, double a, double a_lo, double a_hi) {
  Ratio result{b / a, spec::kUnmeasured, spec::kUnmeasured};
  const double down = std::hypot(std::log(b / b_lo), std::log(a_hi / a));
  const double up = std::hypot(std::log(b_hi / b), std::log(a / a_lo));
  if (!std::isfinite(down) || !std::isfinite(up)) return result;
  result.lo = result.value * std::exp(-down);
  result.hi = result.value * std::exp(up);
  return result;
}

std::string knob_text(const SizeResult& size, const std::string& knob) {
  if (!size.best || !size.best->candidate.knobs.has(knob)) return "-";
  return std::to_string(size.best->candidate.knobs.at(knob));
}

std::vector<KnobChange> moved(const SizeResult& a, const SizeResult& b) {
  std::vector<KnobChange> changes;
  if (!a.best || !b.best) return changes;
  if (a.best->candidate.variant != b.best->candidate.variant)
    changes.push_back({"variant", a.best->candidate.variant, b.best->candidate.variant});
  std::set<std::string> names;
  for (const SizeResult* size : {&a, &b})
    for (const auto& item : size->best->candidate.knobs.items()) names.insert(item.first);
  for (const std::string& name : names)
    if (knob_text(a, name) != knob_text(b, name))
      changes.push_back({name, knob_text(a, name), knob_text(b, name)});
  return changes;
}

SizeComparison compare_size(const SizeResult& a, const SizeResult& b) {
  const spec::Metrics &x = a.metrics, &y = b.metrics;
  SizeComparison result;
  result.dims = a.dims;
  result.id_a = a.best ? a.best->candidate_id : "";
  result.id_b = b.best ? b.best->candidate_id : "";
  result.won_a = a.won;
  result.won_b = b.won;
  result.a = x;
  result.b = y;
  result.kernel.value = y.kernel_us / x.kernel_us;
  result.latency = ratio_of(y.latency_us, y.p10_us, y.p90_us, x.latency_us, x.p10_us, x.p90_us);
  result.speedup = ratio_of(y.speedup_vs_ref, y.speedup_lo, y.speedup_hi, x.speedup_vs_ref,
                            x.speedup_lo, x.speedup_hi);
  result.moved = moved(a, b);
  return result;
}

std::vector<std::string> differences(const RunMeta& a, const RunMeta& b) {
  const auto runtime = [](const RunMeta& meta, const char* key) {
    return joined(meta.runtime.value(key, Json("unknown")));
  };
  struct Field {
    const char* name;
    std::string a, b;
  };
  std::vector<std::string> result;
  for (const Field& field :
       std::vector<Field>{{"dtype", a.dtype, b.dtype},
                          {"device", a.device, b.device},
                          {"device name", runtime(a, "device_name"), runtime(b, "device_name")},
                          {"MLX", runtime(a, "mlx_version"), runtime(b, "mlx_version")},
                          {"mlx-kd", a.mlx_kd_version, b.mlx_kd_version},
                          {"protocol", a.protocol, b.protocol},
                          {"budget", std::to_string(a.budget), std::to_string(b.budget)},
                          {"seed", std::to_string(a.seed), std::to_string(b.seed)},
                          {"options", a.options.dump(), b.options.dump()}})
    if (field.a != field.b)
      result.push_back(std::string(field.name) + ": " + field.a + " -> " + field.b);
  return result;
}

std::string ratio_text(const Ratio& value) {
  if (!std::isfinite(value.value)) return "-";
  const std::string sure = range(value.lo, value.hi);
  return number(value.value) + (sure == "-" ? "" : " " + sure);
}

std::string moved_text(const SizeComparison& size) {
  if (size.id_a.empty() || size.id_b.empty()) return "measured in one run alone";
  if (size.id_a == size.id_b) return "same winner";
  std::string text;
  for (const KnobChange& change : size.moved)
    text += (text.empty() ? "" : ", ") + change.knob + " " + change.a + " -> " + change.b;
  return plain_line(text.empty() ? "same knobs, another source" : text);
}

Json ratio_json(const Ratio& value) {
  const auto put = [](double x) { return std::isfinite(x) ? Json(x) : Json(); };
  return {{"value", put(value.value)}, {"lo", put(value.lo)}, {"hi", put(value.hi)}};
}

Json size_json(const SizeComparison& size) {
  Json changes = Json::array();
  for (const KnobChange& change : size.moved)
    changes.push_back({{"knob", change.knob}, {"a", change.a}, {"b", change.b}});
  return {
      {"shape", size.dims.json()},
      {"a", {{"candidate_id", size.id_a}, {"pinned", size.won_a}, {"metrics", to_json(size.a)}}},
      {"b", {{"candidate_id", size.id_b}, {"pinned", size.won_b}, {"metrics", to_json(size.b)}}},
      {"kernel_ratio", ratio_json(size.kernel)},
      {"latency_ratio", ratio_json(size.latency)},
      {"speedup_ratio", ratio_json(size.speedup)},
      {"same_winner", !size.id_a.empty() && size.id_a == size.id_b},
      {"moved", changes}};
}

}  // namespace

Comparison compare(const RunData& a, const RunData& b) {
  refuse_unlike(a.meta, b.meta);
  Comparison result{a.meta.op_name, {}, differences(a.meta, b.meta)};
  const auto results_a = size_results(a), results_b = size_results(b);
  for (const SizeResult& size : results_a) {
    const auto other = std::find_if(results_b.begin(), results_b.end(),
                                    [&](const SizeResult& r) { return r.dims == size.dims; });
    result.sizes.push_back(compare_size(size, *other));
  }
  return result;
}

std::string comparison_table(const Comparison& comparison) {
  std::vector<std::vector<std::string>> rows = {{"size", "kernel us", "", "B/A", "graph us", "",
                                                 "B/A [80 % of samples]", "speed-up B/A [95% CI]",
                                                 "what moved"}};
  for (const SizeComparison& size : comparison.sizes)
    rows.push_back({plain_line(size.dims.text()), number(size.a.kernel_us),
                    number(size.b.kernel_us), ratio_text(size.kernel), number(size.a.latency_us),
                    number(size.b.latency_us), ratio_text(size.latency), ratio_text(size.speedup),
                    moved_text(size)});
  std::string text =
      plain_line(comparison.op_name) + ", A -> B; ratios of times below 1: B is faster\n";
  for (const std::string& difference : comparison.differences)
    text += "  " + plain_line(difference) + "\n";
  return text + aligned(rows);
}

Json comparison_json(const Comparison& comparison) {
  Json sizes = Json::array();
  for (const SizeComparison& size : comparison.sizes) sizes.push_back(size_json(size));
  return {
      {"op_name", comparison.op_name}, {"differences", comparison.differences}, {"sizes", sizes}};
}

}  // namespace mlx_kd::archive
