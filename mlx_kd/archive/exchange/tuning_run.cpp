#include "mlx_kd/archive/exchange/tuning_run.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "mlx_kd/archive/text.h"
#include "mlx_kd/base/error.h"

namespace mlx_kd::archive {
namespace {

constexpr const char* kVariant = "variant";

double seconds_of(const Record& record, const char* stage) {
  return record.verdict.seconds.is_object() ? record.verdict.seconds.value(stage, 0.0) : 0.0;
}

bool is_measured(const Record& record) {
  return record.verdict.status == spec::Status::benchmarked &&
         std::isfinite(record.verdict.objective);
}

// Settings with the variant as a number, every knob of the run there (0 where a variant lacks it).
std::vector<spec::Setting> full_settings(const RunData& run) {
  std::set<std::string> variants, knobs;
  for (const Record& record : run.records) {
    variants.insert(record.candidate.variant);
    for (const auto& [name, value] : record.candidate.knobs.items()) knobs.insert(name);
  }
  std::vector<spec::Setting> settings;
  for (const Record& record : run.records) {
    spec::Setting setting;
    const auto variant = variants.find(record.candidate.variant);
    setting.set(kVariant, std::distance(variants.begin(), variant));
    for (const std::string& name : knobs)
      setting.set(name, record.candidate.knobs.value_or(name, 0));
    settings.push_back(std::move(setting));
  }
  return settings;
}

spec::Knob knob_over(const std::string& name, const std::set<int64_t>& values) {
  spec::Knob knob{name, {values.begin(), values.end()}};
  const int64_t least = knob.values.front(), most = knob.values.back();
  if (name == kVariant)
    knob.scale = spec::KnobScale::choice;
  else if (least > 0 && most / least >= 4)
    knob.scale = spec::KnobScale::log2;
  return knob;
}

spec::Space space_over(const std::vector<spec::Setting>& settings) {
  spec::Space space;
  for (const auto& [name, first] : settings.front().items()) {
    std::set<int64_t> values;
    for (const spec::Setting& setting : settings) values.insert(setting.at(name));
    if (values.size() > 1) space.knobs.push_back(knob_over(name, values));
  }
  return space;
}

std::vector<uint8_t> indices_of(const spec::Space& space, const spec::Setting& setting) {
  std::vector<uint8_t> indices;
  for (const spec::Knob& knob : space.knobs) {
    const auto at = std::find(knob.values.begin(), knob.values.end(), setting.at(knob.name));
    indices.push_back(static_cast<uint8_t>(at - knob.values.begin()));
  }
  return indices;
}

std::string invalidity_of(spec::Status status) {
  switch (status) {
    case spec::Status::benchmarked:
      return "correct";
    case spec::Status::compile_error:
      return "compile";
    case spec::Status::timeout:
      return "timeout";
    case spec::Status::launch_error:
    case spec::Status::crashed:
      return "runtime";
    default:
      return "correctness";
  }
}

void refuse_empty(const RunData& run, const std::string& origin) {
  if (std::none_of(run.records.begin(), run.records.end(), is_measured))
    base::misuse("archive", origin + " measured nothing: give a run with results");
}

// Of a cache: the knobs in their order, the values as they are in tune_params.
base::OrderedJson cache_entry(const Record& record, const std::vector<std::string>& names,
                              const spec::Setting& setting, double unit_us) {
  base::OrderedJson entry = base::OrderedJson::object();
  for (const std::string& name : names) {
    if (name == kVariant)
      entry[name] = record.candidate.variant;
    else
      entry[name] = setting.at(name);
  }
  const bool measured = is_measured(record);
  const double time_ms = 1e-3 * unit_us * std::exp(record.verdict.objective);
  if (measured)
    entry["time"] = time_ms;
  else
    entry["time"] = record.verdict.status == spec::Status::compile_error ? "CompilationFailedConfig"
                                                                         : "RuntimeFailedConfig";
  entry["times"] = base::OrderedJson::array();
  if (measured) entry["times"].push_back(time_ms);
  entry["compile_time"] = 1e3 * seconds_of(record, "compile");
  entry["verification_time"] = 1e3 * seconds_of(record, "prove");
  entry["benchmark_time"] = 1e3 * seconds_of(record, "time");
  entry["framework_time"] = entry["benchmark_time"];
  entry["strategy_time"] = 0.0;
  return entry;
}

// The values of a configuration with commas between, as its key.
std::string cache_key(const base::OrderedJson& entry, const std::vector<std::string>& names) {
  std::string key;
  for (const std::string& name : names) {
    const auto& value = entry[name];
    key += (key.empty() ? "" : ",") + (value.is_string() ? value.get<std::string>() : value.dump());
  }
  return key;
}

// The knobs that vary (all, where none does) and their values, by number; variants by name.
base::OrderedJson tune_params(const RunData& run, const std::vector<spec::Setting>& settings) {
  std::set<std::string> variants;
  for (const Record& record : run.records) variants.insert(record.candidate.variant);
  base::OrderedJson all = base::OrderedJson::object(), varied = base::OrderedJson::object();
  for (const auto& [name, first] : settings.front().items()) {
    std::set<int64_t> values;
    for (const spec::Setting& setting : settings) values.insert(setting.at(name));
    if (name == kVariant)
      all[name] = variants;
    else
      all[name] = values;
    if (values.size() > 1) varied[name] = all[name];
  }
  return varied.empty() ? all : varied;
}

base::OrderedJson configuration_of(const spec::Candidate& candidate) {
  base::OrderedJson configuration = {{kVariant, candidate.variant}};
  for (const auto& [name, value] : candidate.knobs.items()) configuration[name] = value;
  return configuration;
}

base::OrderedJson result_of(const Record& record) {
  const double time_us = ranking_time_us(record.verdict.metrics);
  const bool measured =
      record.verdict.status == spec::Status::benchmarked && std::isfinite(time_us);
  base::OrderedJson runtimes = base::OrderedJson::array(),
                    measurements = base::OrderedJson::array();
  if (measured) {
    runtimes.push_back(1e-6 * time_us);
    measurements.push_back({{"name", "time"}, {"value", time_us}, {"unit", "us"}});
  }
  return {{"timestamp", record.ts},
          {"configuration", configuration_of(record.candidate)},
          {"objectives", {"time"}},
          {"times",
           {{"compilation_time", seconds_of(record, "compile")},
            {"validation", seconds_of(record, "prove")},
            {"framework", seconds_of(record, "time")},
            {"search_algorithm", 0.0},
            {"runtimes", runtimes}}},
          {"invalidity", invalidity_of(record.verdict.status)},
          {"correctness", measured ? 1 : 0},
          {"measurements", measurements}};
}

}  // namespace

TuningCache measured_space(const RunData& run, const std::string& origin) {
  refuse_empty(run, origin);
  const std::vector<spec::Setting> settings = full_settings(run);
  TuningCache cache{run.meta.runtime.value("device_name", ""),
                    run.meta.op_name,
                    space_over(settings),
                    {},
                    {},
                    {},
                    {}};
  std::map<std::string, size_t> last;  // a setting's text -> its record
  for (size_t i = 0; i < settings.size(); ++i) last[settings[i].text()] = i;
  for (const auto& [text, i] : last) {
    const Record& record = run.records[i];
    double seconds = 0;
    for (const char* stage : {"compile", "prove", "time"}) seconds += seconds_of(record, stage);
    cache.points.push_back(indices_of(cache.space, settings[i]));
    cache.times.push_back(is_measured(record) ? std::exp(record.verdict.objective) : std::nan(""));
    cache.runs.emplace_back();
    cache.costs.push_back(1e3 * seconds);
  }
  return cache;
}

base::OrderedJson tuning_cache_json(const RunData& run, const std::string& origin) {
  refuse_empty(run, origin);
  const std::vector<spec::Setting> settings = full_settings(run);
  const base::OrderedJson params = tune_params(run, settings);
  std::vector<std::string> names, sizes;
  for (const auto& [name, values] : params.items()) names.push_back(name);
  for (const spec::Dims& size : run.meta.sizes) sizes.push_back(size.text());
  // The time at objective 0.
  const auto first = std::find_if(run.records.begin(), run.records.end(), is_measured);
  const double unit_us =
      ranking_time_us(first->verdict.metrics) * std::exp(-first->verdict.objective);
  std::map<std::string, base::OrderedJson> last;
  for (size_t i = 0; i < run.records.size(); ++i) {
    base::OrderedJson entry = cache_entry(run.records[i], names, settings[i], unit_us);
    const std::string key = cache_key(entry, names);
    last[key] = std::move(entry);
  }
  base::OrderedJson::object_t entries;  // appended to: looking for each key would be quadratic
  for (auto& [key, entry] : last) entries.emplace_back(key, std::move(entry));
  return {{"device_name", run.meta.runtime.value("device_name", "")},
          {"kernel_name", run.meta.op_name},
          {"problem_size", sizes},
          {"dtype", run.meta.dtype},
          {"protocol", run.meta.protocol},
          {"objective", "time"},
          {"tune_params_keys", names},
          {"tune_params", params},
          {"cache", std::move(entries)}};
}

base::OrderedJson t4_results(const RunData& run) {
  base::OrderedJson results = base::OrderedJson::array();
  for (const Record& record : run.records) results.push_back(result_of(record));
  return {{"schema_version", "1.0.0"},
          {"metadata",
           {{"program", "mlx-kd " + run.meta.mlx_kd_version},
            {"kernel", run.meta.op_name},
            {"dtype", run.meta.dtype},
            {"shape_suite", run.meta.shape_suite},
            {"device", run.meta.runtime.value("device_name", "")}}},
          {"results", results}};
}

}  // namespace mlx_kd::archive
