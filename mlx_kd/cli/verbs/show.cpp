// kd show: what a pack, or a run, pins.
#include <cmath>
#include <cstdio>
#include <memory>

#include "mlx_kd/cli/table.h"
#include "mlx_kd/cli/verbs.h"
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

}  // namespace

void add_show(CLI::App& app) {
  struct Options {
    std::string file;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("show", "List the kernels that a pack or a run pins");
  verb->add_option("file", options->file, "Pack, best_kernels.json or run directory")->required();
  verb->add_flag("--json", options->json, "Print the entries, without their sources, as JSON");
  verb->callback([options] {
    const packs::Pack pack = packs::read_winners(options->file);
    options->json ? print_json(pack) : print_table(pack, options->file);
  });
}

}  // namespace mlx_kd::cli
