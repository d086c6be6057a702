// kd show: what a pack, or a run, pins.
#include <cmath>
#include <cstdio>
#include <memory>

#include "mlx_kd/base/error.h"
#include "mlx_kd/cli/terminal/table.h"
#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/packs/merge/difference.h"
#include "mlx_kd/packs/pack.h"

namespace mlx_kd::cli {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string number(const char* format, double value) {
  if (!std::isfinite(value)) return "-";
  char text[40];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// "2.31x (2.25 to 2.38)"
std::string speedup(const spec::Metrics& metrics) {
  std::string text = number("%.2f", metrics.speedup_vs_ref);
  if (text != "-") text += "x";
  if (std::isfinite(metrics.speedup_lo) && std::isfinite(metrics.speedup_hi))
    text += " (" + number("%.2f", metrics.speedup_lo) + " to " +
            number("%.2f", metrics.speedup_hi) + ")";
  return text;
}

// {"cores": 2, "isa": ["avx2", "f16c"]} as "cores=2 isa=avx2,f16c".
std::string target_text(const base::Json& target) {
  std::string text;
  for (const auto& [name, value] : target.items()) {
    text += (text.empty() ? "" : " ") + name + "=";
    if (!value.is_array()) text += value.is_string() ? value.get<std::string>() : value.dump();
    for (size_t i = 0; value.is_array() && i < value.size(); ++i)
      text +=
          (i ? "," : "") + (value[i].is_string() ? value[i].get<std::string>() : value[i].dump());
  }
  return text.empty() ? "-" : text;
}

std::vector<std::string> row_of(const packs::Entry& entry) {
  const spec::PinKey& key = entry.key;
  return {key.op_name,
          key.dtype,
          key.shape_signature.empty() ? "any" : key.shape_signature.text(),
          entry.candidate_id,
          entry.language,
          number("%.4g", entry.metrics.latency_us),
          speedup(entry.metrics),
          entry.protocol.substr(0, 24),
          key.device_name + " (" + key.device_arch + ")",
          target_text(entry.target)};
}

void print_table(const packs::Pack& pack, const std::string& path) {
  Rows rows = {{"op", "dtype", "shape", "kernel", "language", "us", "speed-up", "protocol",
                "device", "target"}};
  for (const packs::Entry& entry : pack.entries) rows.push_back(row_of(entry));
  if (rows.size() > 1) std::fputs(table_text(rows).c_str(), stdout);
  const std::string entries = counted(pack.entries.size(), "entry", "entries");
  std::printf("%s: %s, schema %d\n", path.c_str(), entries.c_str(), pack.schema);
}

// The pack with whole entries, but without the texts of kernels.
void print_json(const packs::Pack& pack) {
  base::Json root = pack.other;
  root["schema_version"] = std::to_string(packs::kNewestSchema);
  root["runtime"] = pack.runtime;
  root["entries"] = base::Json::array();
  for (const packs::Entry& entry : pack.entries) {
    base::Json whole = packs::to_json(entry);
    whole.erase("source");
    whole.erase("metal_source");
    root["entries"].push_back(std::move(whole));
  }
  std::printf("%s\n", root.dump(2, ' ', true).c_str());
}

std::vector<std::string> row_of(const packs::Difference& one) {
  const packs::Entry& entry = one.a ? *one.a : *one.b;
  const auto kernel = [](const auto& side) { return side ? side->candidate_id : "-"; };
  const auto faster = [](const auto& side) { return side ? speedup(side->metrics) : "-"; };
  return {name_of(one.kind),
          entry.key.op_name,
          entry.key.dtype,
          entry.key.shape_signature.empty() ? "any" : entry.key.shape_signature.text(),
          kernel(one.a),
          kernel(one.b),
          faster(one.a),
          faster(one.b),
          entry.key.device_name + " (" + entry.key.device_arch + ")"};
}

base::Json json_of(const packs::Difference& one) {
  const auto side = [](const auto& entry) {
    if (!entry) return base::Json();
    return base::Json{{"candidate_id", entry->candidate_id},
                      {"protocol", entry->protocol},
                      {"metrics", spec::to_json(entry->metrics)}};
  };
  const packs::Entry& entry = one.a ? *one.a : *one.b;
  return {{"difference", name_of(one.kind)},
          {"key", spec::to_json(entry.key)},
          {"target", entry.target},
          {"a", side(one.a)},
          {"b", side(one.b)}};
}

void print_differences(const std::string& a, const std::string& b, bool json) {
  const auto differences = packs::difference(packs::read_winners(a), packs::read_winners(b));
  if (json) {
    base::Json list = base::Json::array();
    for (const packs::Difference& one : differences) list.push_back(json_of(one));
    std::printf("%s\n",
                base::Json({{"a", a}, {"b", b}, {"differences", list}}).dump(2, ' ', true).c_str());
    return;
  }
  Rows rows = {
      {"", "op", "dtype", "shape", "kernel in A", "in B", "speed-up in A", "in B", "device"}};
  for (const packs::Difference& one : differences) rows.push_back(row_of(one));
  if (rows.size() > 1) std::fputs(table_text(rows).c_str(), stdout);
  std::printf("%s -> %s: %s\n", a.c_str(), b.c_str(),
              counted(differences.size(), "difference", "differences").c_str());
}

}  // namespace

void add_show(CLI::App& app) {
  struct Options {
    std::string file;
    std::vector<std::string> diff;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("show", "List the kernels that a pack or a run pins");
  CLI::Option* file =
      verb->add_option("file", options->file, "Pack, best_kernels.json or run directory");
  CLI::Option* diff =
      verb->add_option("--diff", options->diff, "Two of them, A and B: list what B pins otherwise")
          ->expected(2);
  file->excludes(diff);
  verb->add_flag("--json", options->json, "Print the entries, without their sources, as JSON");
  verb->callback([options] {
    if (!options->diff.empty()) {
      print_differences(options->diff[0], options->diff[1], options->json);
      return;
    }
    if (options->file.empty())
      base::misuse("cli", "file is required: name a pack, or two with --diff");
    const packs::Pack pack = packs::read_winners(options->file);
    options->json ? print_json(pack) : print_table(pack, options->file);
  });
}

}  // namespace mlx_kd::cli
