#include "mlx_kd/archive/run/run_reader.h"

#include <string_view>

#include "mlx_kd/archive/run/record_json.h"
#include "mlx_kd/archive/run/run_log.h"
#include "mlx_kd/archive/run/run_writer.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"

namespace mlx_kd::archive {
namespace {

namespace fs = std::filesystem;
using base::Json;

// The object in a line; discarded if the line holds none.
Json object_in(std::string_view line) {
  try {
    const Json value = base::parse_json(line, "archive", kLogFile);
    if (value.is_object()) return value;
  } catch (const base::Error&) {  // the caller names the line
  }
  return Json(Json::value_t::discarded);
}

[[noreturn]] void refuse_line(const fs::path& file, size_t line, const std::string& reason) {
  base::misuse("archive", file.string() + " line " + std::to_string(line) + " is not a record (" +
                              reason + "): restore the file, or choose another folder");
}

void take_line_or_refuse(const Json& value, const fs::path& file, size_t number, Sources& sources,
                         RunData& run) {
  try {
    const std::string event = value.at("event").get<std::string>();
    if (event == "finish") {
      run.finish = finish_from_json(value, run.meta.sizes);
    } else if (event == "evaluation" || event == "failure") {
      run.records.push_back(record_from_json(value, run.meta.sizes, sources));
      run.finish.reset();
    }
  } catch (const Json::exception& error) {
    refuse_line(file, number, error.what());
  } catch (const base::Error& error) {
    refuse_line(file, number, error.what());
  }
}

}  // namespace

LogText read_log(const fs::path& dir, RunData& run) {
  const fs::path file = dir / kLogFile;
  LogText result;
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return result;
  const std::string text = base::read_file(file, "archive");
  Sources sources;
  size_t number = 0;
  for (size_t at = 0; at < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const size_t next = std::min(end + 1, text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = next;
    const Json value = object_in(line);
    run.cut = value.is_discarded() && !line.empty();
    if (run.cut && at < text.size()) refuse_line(file, number + 1, "not a JSON object");
    if (run.cut) break;
    if (!line.empty()) take_line_or_refuse(value, file, number + 1, sources, run);
    result = {at, end == text.size()};
  }
  // zmlx.kd does not write its sizes; its records have them.
  for (const Record& record : run.records)
    if (run.meta.sizes.empty())
      for (const auto& size : record.verdict.sizes) run.meta.sizes.push_back(size.dims);
  return result;
}

RunMeta read_meta(const fs::path& dir) {
  const fs::path file = dir / kMetaFile;
  const std::string text = base::read_file(file, "archive");
  return meta_from_json(base::parse_json(text, "archive", file.string()), file.string());
}

bool is_run_dir(const fs::path& dir) {
  std::error_code ignored;
  return fs::is_regular_file(dir / kMetaFile, ignored);
}

RunData read_run(const fs::path& dir) {
  std::error_code ignored;
  if (!fs::exists(dir, ignored))
    base::misuse("archive",
                 "there is no folder " + dir.string() + ": name one that kd run has written");
  if (!is_run_dir(dir))
    base::misuse("archive", dir.string() + " is not a run directory (it has no " +
                                std::string(kMetaFile) + "): name one that kd run has written");
  RunData run;
  run.meta = read_meta(dir);
  read_log(dir, run);
  return run;
}

}  // namespace mlx_kd::archive
