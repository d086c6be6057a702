#include "mlx_kd/archive/evidence/evidence.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>

#include "mlx_kd/archive/run/record_json.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"

namespace mlx_kd::archive {
namespace {

namespace fs = std::filesystem;
using base::Json;

constexpr const char* kMatrix = "matrix.jsonl";

std::string slug(const std::string& text) {
  return base::file_word(text, "._");
}

std::string fact(const RunMeta& meta, const char* name) {
  return meta.runtime.value(name, "unknown");
}

std::string id_of(const RunMeta& meta) {
  return meta.op_name + "." + slug(meta.shape_suite) + "." + meta.dtype + "." +
         slug(fact(meta, "device_arch")) + "." + slug(fact(meta, "device_name")) + ".mlx-" +
         slug(fact(meta, "mlx_version"));
}

std::map<std::string, uint64_t> statuses_of(const RunData& run) {
  std::map<std::string, uint64_t> result;
  for (const Record& record : run.records) ++result[name_of(record.verdict.status)];
  return result;
}

Json capsule_of(const RunData& run, const Json& finish) {
  Json result = {{"command", command_of(run.meta, "runs/" + id_of(run.meta))},
                 {"run_meta", Json::parse(to_json(run.meta).dump())},
                 {"statuses", statuses_of(run)}};
  for (const char* part : {"winners", "claims", "aa", "seconds"}) result[part] = finish.at(part);
  return result;
}

// Of the winners' claims.
std::vector<double> speedups_of(const Finish& finish) {
  std::vector<double> result;
  for (const Winner& winner : finish.winners)
    for (const Claim& claim : finish.claims)
      if (claim.dims == winner.dims && claim.candidate_id == winner.candidate_id)
        result.push_back(claim.metrics.speedup_vs_ref);
  return result;
}

Json row_of(const RunData& run) {
  const RunMeta& meta = run.meta;
  const std::string id = id_of(meta);
  Json row = {{"id", id},
              {"op_name", meta.op_name},
              {"shape_suite", meta.shape_suite},
              {"dtype", meta.dtype},
              {"device", meta.device},
              {"device_name", fact(meta, "device_name")},
              {"device_arch", fact(meta, "device_arch")},
              {"mlx_version", fact(meta, "mlx_version")},
              {"mlx_kd_version", meta.mlx_kd_version},
              {"protocol", meta.protocol},
              {"budget", meta.budget},
              {"seed", meta.seed},
              {"created_at", meta.created_at},
              {"evaluated", run.records.size()},
              {"sizes", meta.sizes.size()},
              {"won", run.finish->winners.size()},
              {"capsule", "capsules/" + id + ".json"}};
  const auto speedups = speedups_of(*run.finish);
  double sum = 0;
  for (double speedup : speedups) sum += std::log(speedup);
  if (!speedups.empty())
    row["speedup_geomean"] = std::exp(sum / static_cast<double>(speedups.size()));
  return row;
}

Evidence evidence_of(const Json& row, const std::string& where) {
  Evidence result;
  const std::pair<const char*, std::string*> fields[] = {
      {"id", &result.id},          {"op_name", &result.op_name},
      {"dtype", &result.dtype},    {"shape_suite", &result.shape_suite},
      {"device", &result.device},  {"created_at", &result.created_at},
      {"capsule", &result.capsule}};
  for (const auto& [name, text] : fields) {
    if (!row.is_object() || !row.contains(name) || !row[name].is_string())
      base::misuse("archive", where + " has no text '" + name +
                                  "': it is damaged, restore it or add the run again");
    *text = row[name].get<std::string>();
  }
  result.row = row;
  return result;
}

void write_matrix(const fs::path& folder, const std::vector<Evidence>& rows) {
  std::string text;
  for (const Evidence& row : rows) text += base::canonical_json(row.row) + "\n";
  base::write_file_atomically(folder / kMatrix, text, "archive");
}

// "--row-range 1:512", "--range S=1:64", "--neighbors 4": what shapes the walk in addition to op,
// sizes and budget.
std::string option_text(const std::string& name, const Json& value) {
  if (name == "row_range") return " --row-range " + value.at(0).dump() + ":" + value.at(1).dump();
  if (name == "ranges") {
    std::string ranges;
    for (const auto& [dim, range] : value.items())
      ranges += " --range " + dim + "=" + range.at(0).dump() + ":" + range.at(1).dump();
    return ranges;
  }
  std::string option = " --" + name;
  std::replace(option.begin(), option.end(), '_', '-');
  if (!value.is_array())
    return option + " " + (value.is_string() ? value.get<std::string>() : value.dump());
  std::string result;
  for (const Json& item : value) result += option + " " + item.get<std::string>();
  return result;
}

}  // namespace

std::string command_of(const RunMeta& meta, const std::string& out) {
  std::string result = "./kd run --op " + meta.op_name + " --shapes " + meta.shape_suite +
                       " --dtype " + meta.dtype + " --device " + meta.device + " --budget " +
                       std::to_string(meta.budget) + " --seed " + std::to_string(meta.seed);
  for (const auto& [name, value] : meta.options.items()) result += option_text(name, value);
  return result + " --out " + out;
}

Evidence add_evidence(const fs::path& folder, const RunData& run) {
  if (!run.finish)
    base::misuse("archive", "the run of " + run.meta.op_name +
                                " is not finished: go on with kd run --resume first");
  if (run.meta.protocol == "null" || run.meta.device == "simt")
    base::misuse("archive", "the times of the " + run.meta.device +
                                " device are not evidence: run on a real one");
  const std::string& suite = run.meta.shape_suite;
  if (suite.empty() || suite == "custom" || suite.find(':') != suite.npos || suite == "shape-log")
    base::misuse("archive", "the run's sizes ('" + suite.substr(0, 80) +
                                "') are not a suite: evidence is of runs with --shapes SUITE");
  std::error_code error;
  fs::create_directories(folder / "capsules", error);
  if (error) base::fail("archive", "cannot make " + folder.string() + ": " + error.message());
  const auto lock = base::FileLock::take(folder / "evidence.lock", "archive");
  auto rows = read_evidence(folder);
  const Evidence added = evidence_of(row_of(run), "the run");
  const Json capsule = capsule_of(run, Json::parse(to_line(*run.finish)));
  base::write_file_atomically(folder / added.capsule, capsule.dump(2, ' ', true) + "\n", "archive");
  std::erase_if(rows, [&](const Evidence& row) { return row.id == added.id; });
  rows.push_back(added);
  std::sort(rows.begin(), rows.end(),
            [](const Evidence& a, const Evidence& b) { return a.id < b.id; });
  write_matrix(folder, rows);
  return added;
}

std::vector<Evidence> read_evidence(const fs::path& folder) {
  std::vector<Evidence> result;
  const fs::path matrix = folder / kMatrix;
  std::error_code ignored;
  if (!fs::exists(matrix, ignored)) return result;
  std::istringstream lines(base::read_file(matrix, "archive"));
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string where = matrix.string() + ", line " + std::to_string(++number);
    result.push_back(evidence_of(base::parse_json(line, "archive", where), where));
    if (!fs::exists(folder / result.back().capsule, ignored))
      base::misuse("archive", where + " names " + result.back().capsule +
                                  ", which is not there: restore it or add the run again");
  }
  return result;
}

std::string command_of(const fs::path& folder, const Evidence& evidence) {
  const fs::path path = folder / evidence.capsule;
  const Json capsule = base::parse_json(base::read_file(path, "archive"), "archive", path.string());
  const Json command = capsule.is_object() ? capsule.value("command", Json()) : Json();
  if (!command.is_string())
    base::misuse("archive", path.string() + " has no command: it is damaged, add the run again");
  return command.get<std::string>();
}

}  // namespace mlx_kd::archive
