#include "mlx_kd/archive/exchange/tuning_cache.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <optional>

#include "mlx_kd/archive/exchange/gzip.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/json.h"

namespace mlx_kd::archive {
namespace {

using base::Json;

// Kernel Tuner's time of a configuration that failed, in caches of its older versions.
constexpr double kFailed = 1e20;

// A cache being read; every complaint names the file.
struct Reader {
  std::string origin;
  TuningCache cache;
  std::vector<std::string> names;
  std::vector<std::map<std::string, uint8_t>> index_of;  // a value's JSON text -> its index

  [[noreturn]] void refuse(const std::string& what) const {
    base::misuse("archive", origin + " " + what + ": give a Kernel Tuner cache");
  }

  const Json& field(const Json& object, const std::string& name, const std::string& where) const {
    if (!object.is_object()) refuse("has no object at " + where);
    const auto found = object.find(name);
    if (found == object.end()) refuse("lacks the field '" + name + "' of " + where);
    return *found;
  }

  std::string text(const Json& object, const std::string& name) const {
    const Json& value = field(object, name, "the cache");
    if (!value.is_string()) refuse("has no text in its field '" + name + "'");
    return value.get<std::string>();
  }

  double number(const Json& object, const std::string& name, const std::string& where) const {
    const Json& value = field(object, name, where);
    if (!value.is_number() || !std::isfinite(value.get<double>()) || value.get<double>() < 0)
      refuse("has " + value.dump().substr(0, 40) + " as '" + name + "' of " + where +
             ", not a time");
    return value.get<double>();
  }

  void read_head(const Json& file);
  void add_parameter(const std::string& name, const Json& values);
  void add_configuration(const std::string& key, const Json& entry);
  double run_time(const Json& entry, const std::string& where, std::vector<double>& runs) const;
};

bool are_integers(const Json& values) {
  return std::all_of(values.begin(), values.end(),
                     [](const Json& v) { return v.is_number_integer(); });
}

bool are_numbers(const Json& values) {
  return std::all_of(values.begin(), values.end(), [](const Json& v) { return v.is_number(); });
}

// Integers as they are.
void set_sizes(spec::Knob& knob, const Json& values) {
  for (const Json& value : values) knob.values.push_back(value.get<int64_t>());
  const auto [least, most] = std::minmax_element(knob.values.begin(), knob.values.end());
  if (*least > 0 && *most / *least >= 4) knob.scale = spec::KnobScale::log2;
}

// Anything else by number, numbers in ascending order.
void set_labels(spec::Knob& knob, const Json& values) {
  const bool numbers = are_numbers(values);
  knob.scale = numbers ? spec::KnobScale::linear : spec::KnobScale::choice;
  for (const Json& value : values) {
    const auto place = std::count_if(values.begin(), values.end(),
                                     [&](const Json& other) { return numbers && other < value; });
    knob.values.push_back(numbers ? place : static_cast<int64_t>(knob.values.size()));
    knob.labels.push_back(value.dump());
  }
}

void Reader::add_parameter(const std::string& name, const Json& values) {
  if (!values.is_array() || values.empty()) refuse("lists no values of parameter '" + name + "'");
  if (values.size() > 256) refuse("lists more than 256 values of parameter '" + name + "'");
  spec::Knob knob{name, {}};
  if (are_integers(values))
    set_sizes(knob, values);
  else
    set_labels(knob, values);
  index_of.emplace_back();
  for (const Json& value : values)
    if (!index_of.back().emplace(value.dump(), index_of.back().size()).second)
      refuse("lists a value of parameter '" + name + "' twice");
  cache.space.knobs.push_back(std::move(knob));
}

void Reader::read_head(const Json& file) {
  cache.device = text(file, "device_name");
  cache.kernel = text(file, "kernel_name");
  // Older caches do not say what they were tuned for: for time.
  if (const std::string objective = file.contains("objective") ? text(file, "objective") : "time";
      objective != "time")
    refuse("was tuned for '" + objective + "', not for 'time'");
  const Json& keys = field(file, "tune_params_keys", "the cache");
  if (!keys.is_array() || keys.empty()) refuse("lists no parameters in 'tune_params_keys'");
  const Json& parameters = field(file, "tune_params", "the cache");
  for (const Json& key : keys) {
    if (!key.is_string()) refuse("has a parameter whose name is not a string");
    names.push_back(key.get<std::string>());
    add_parameter(names.back(), field(parameters, names.back(), "'tune_params'"));
  }
}

// NaN if it failed.
double Reader::run_time(const Json& entry, const std::string& where,
                        std::vector<double>& runs) const {
  if (const Json& failure = field(entry, "time", where); failure.is_string()) {
    const std::string name = failure.get<std::string>();
    if (name.size() < 6 || name.compare(name.size() - 6, 6, "Config") != 0)
      refuse("has the time '" + name.substr(0, 40) + "' in " + where +
             ", neither a number nor a failure such as RuntimeFailedConfig");
    return std::nan("");
  }
  const double time = number(entry, "time", where);
  if (time >= kFailed) return std::nan("");
  if (time <= 0) refuse("has the time 0 in " + where);
  const Json& list = field(entry, "times", where);
  if (!list.is_array()) refuse("has no list in 'times' of " + where);
  for (const Json& run : list) {
    if (!run.is_number()) refuse("has a run without a time in " + where);
    runs.push_back(run.get<double>());
  }
  return time;
}

void Reader::add_configuration(const std::string& key, const Json& entry) {
  const std::string where = "configuration '" + key + "'";
  std::vector<uint8_t> point;
  for (size_t i = 0; i < names.size(); ++i) {
    const auto index = index_of[i].find(field(entry, names[i], where).dump());
    if (index == index_of[i].end())
      refuse("has a value of '" + names[i] + "' in " + where + " that 'tune_params' does not list");
    point.push_back(index->second);
  }
  double cost = 0;
  for (const char* part : {"compile_time", "framework_time", "strategy_time", "verification_time"})
    cost += number(entry, part, where);
  std::vector<double>& runs = cache.runs.emplace_back();
  cache.times.push_back(run_time(entry, where, runs));
  for (double run : runs) cost += run;
  cache.costs.push_back(cost);
  cache.points.push_back(std::move(point));
}

// Of a job that was killed, as Kernel Tuner itself reads it: what follows the last whole
// configuration is left out, and the brackets are closed.
std::optional<Json> cut_cache(std::string text) {
  for (int tries = 0; tries < 2; ++tries) {
    text.erase(text.find_last_not_of(" \t\r\n,") + 1);
    if (Json whole = Json::parse(text + "}}", nullptr, false); !whole.is_discarded()) return whole;
    const size_t end = text.rfind("},");  // of the last configuration but the one that is cut
    if (end == text.npos) return std::nullopt;
    text.erase(end + 1);
  }
  return std::nullopt;
}

Json parse_cache(const std::string& text, const std::string& origin) {
  try {
    return base::parse_json(text, "archive", origin);
  } catch (const base::Error&) {
    if (const auto cut = cut_cache(text); cut && cut->is_object() && cut->contains("cache"))
      return *cut;
    throw;
  }
}

// As ints: gcc 12 warns falsely of the memcmp that bytes would be compared by.
bool before(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(), std::less<int>());
}

template <class T>
void permute(std::vector<T>& items, const std::vector<size_t>& order) {
  std::vector<T> sorted;
  for (size_t i : order) sorted.push_back(std::move(items[i]));
  items = std::move(sorted);
}

void sort_points(TuningCache& cache) {
  std::vector<size_t> order(cache.points.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return before(cache.points[a], cache.points[b]); });
  permute(cache.points, order);
  permute(cache.times, order);
  permute(cache.runs, order);
  permute(cache.costs, order);
}

}  // namespace

TuningCache read_tuning_cache(const std::filesystem::path& path) {
  Reader reader{path.string(), {}, {}, {}};
  std::string bytes = base::read_file(path, "archive");
  if (is_gzip(bytes)) bytes = gunzip(bytes, reader.origin);
  const Json file = parse_cache(bytes, reader.origin);
  reader.read_head(file);
  const Json& entries = reader.field(file, "cache", "the cache");
  if (!entries.is_object()) reader.refuse("has no object in its field 'cache'");
  for (const auto& [key, entry] : entries.items()) reader.add_configuration(key, entry);
  TuningCache& cache = reader.cache;
  const bool any = std::any_of(cache.times.begin(), cache.times.end(),
                               [](double time) { return !std::isnan(time); });
  if (!any) reader.refuse("holds no valid configuration");
  sort_points(cache);
  for (size_t i = 1; i < cache.points.size(); ++i)
    if (!before(cache.points[i - 1], cache.points[i])) reader.refuse("holds a configuration twice");
  return cache;
}

}  // namespace mlx_kd::archive
