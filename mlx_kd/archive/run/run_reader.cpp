#include "mlx_kd/archive/run/run_reader.h"

#include <cerrno>
#include <cstring>
#include <fstream>
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

// A file line by line.
class Lines {
 public:
  explicit Lines(const fs::path& file) : file_(file), in_(file, std::ios::binary) {
    if (!in_) refuse();
  }

  bool next() {
    if (!std::getline(in_, text_)) {
      if (in_.bad()) refuse();
      return false;
    }
    whole_ = !in_.eof();
    bytes_ += text_.size() + whole_;
    ++number_;
    return true;
  }

  const std::string& text() const { return text_; }
  bool is_whole() const { return whole_; }  // its "\n" is there
  bool at_end() { return !whole_ || in_.peek() == std::char_traits<char>::eof(); }
  uint64_t bytes() const { return bytes_; }  // up to its end
  size_t number() const { return number_; }

 private:
  [[noreturn]] void refuse() const {
    base::misuse("archive", "cannot read " + file_.string() + " (" + std::strerror(errno) +
                                "): check its rights");
  }

  fs::path file_;
  std::ifstream in_;
  std::string text_;
  bool whole_ = false;
  uint64_t bytes_ = 0;
  size_t number_ = 0;
};

struct Log {
  const fs::path& file;
  RunData& run;
  const OldRecords& old;
  Sources sources;

  // A few of the lines may be no records: then fewer are kept.
  uint64_t count_of_old() const {
    if (!old.take) return 0;
    uint64_t count = 0;
    for (Lines lines(file); lines.next();) ++count;
    return count > old.kept ? (count - old.kept) / old.step * old.step : 0;
  }

  // False for a line that is not of an evaluation.
  bool hand_over(const Lines& lines) {
    try {
      Brief brief;
      if (!read_brief(lines.text(), brief)) return false;
      const auto whole = [&] {
        return record_from_json(base::parse_json(lines.text(), "archive", kLogFile), run.meta.sizes,
                                sources);
      };
      if (brief.has_source) whole();  // others refer to it
      old.take(brief, whole);
    } catch (const Json::exception& error) {
      refuse_line(file, lines.number(), error.what());
    } catch (const base::Error& error) {
      refuse_line(file, lines.number(), error.what());
    }
    ++run.older;
    run.finish.reset();
    return true;
  }
};

}  // namespace

LogText read_log(const fs::path& dir, RunData& run, const OldRecords& old) {
  const fs::path file = dir / kLogFile;
  LogText result;
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return result;
  Lines lines(file);
  Log log{file, run, old, {}};
  const uint64_t handed_over = log.count_of_old();
  while (lines.next()) {
    if (run.older < handed_over && lines.is_whole() && !lines.text().empty() &&
        log.hand_over(lines)) {
      result.whole_bytes = lines.bytes();
      continue;
    }
    const Json value = object_in(lines.text());
    run.cut = value.is_discarded() && !lines.text().empty();
    if (run.cut && lines.is_whole() && !lines.at_end())
      refuse_line(file, lines.number(), "not a JSON object");
    if (run.cut) break;
    if (!lines.text().empty()) take_line_or_refuse(value, file, lines.number(), log.sources, run);
    result.whole_bytes = lines.bytes();
    result.needs_newline = !lines.is_whole();
  }
  for (const auto& [hash, text] : log.sources) result.sources.insert(hash);
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
