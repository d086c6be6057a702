#include "mlx_kd/archive/run/run_reader.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <set>
#include <string_view>
#include <tuple>

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

// zmlx.kd does not write its sizes; its records have them.
void take_sizes(RunData& run) {
  for (const Record& record : run.records)
    if (run.meta.sizes.empty())
      for (const auto& size : record.verdict.sizes) run.meta.sizes.push_back(size.dims);
}

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
  take_sizes(run);
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

namespace {

void require_run(const fs::path& dir) {
  std::error_code ignored;
  if (!fs::exists(dir, ignored))
    base::misuse("archive",
                 "there is no folder " + dir.string() + ": name one that kd run has written");
  if (!is_run_dir(dir))
    base::misuse("archive", dir.string() + " is not a run directory (it has no " +
                                std::string(kMetaFile) + "): name one that kd run has written");
}

}  // namespace

RunData read_run(const fs::path& dir) {
  require_run(dir);
  RunData run;
  run.meta = read_meta(dir);
  read_log(dir, run);
  return run;
}

namespace {

constexpr size_t kBestOfSize = 10;     // as many as a report lists
constexpr uint64_t kOfEachKind = 100;  // failures, of which three reasons are shown

// Where a record is in the log, and its id.
struct Place {
  uint64_t offset;
  size_t line;
  std::string id;
  bool has_source;
};

// The first places of one size: by a time, then by the other and the id.
class BestPlaces {
 public:
  void add(double first_us, double second_us, const std::string& id, size_t place) {
    const auto last = [](double us) { return std::isfinite(us) ? us : INFINITY; };
    if (!std::isfinite(first_us)) return;
    best_.insert({first_us, last(second_us), id, place});
    if (best_.size() > kBestOfSize) best_.erase(std::prev(best_.end()));
  }
  void add_to(std::set<size_t>& places) const {
    for (const auto& one : best_) places.insert(std::get<3>(one));
  }

 private:
  std::set<std::tuple<double, double, std::string, size_t>> best_;
};

// The records of a log, looked at one by one, and which of them a digest keeps.
class Digest {
 public:
  void add(const Brief& brief, uint64_t offset, size_t line) {
    const size_t place = places_.size();
    places_.push_back({offset, line, brief.candidate_id, brief.has_source});
    all_.records += 1;
    if (++all_.statuses[brief.status] <= kOfEachKind && !brief.benchmarked) kept_.insert(place);
    for (const auto& [stage, seconds] : brief.stages) all_.seconds[stage] += seconds;
    if (!brief.benchmarked) return;
    if (brief.objective < best_) best_ = brief.objective, kept_.insert(place);
    if (by_kernel_.size() < brief.kernel_us.size()) by_kernel_.resize(brief.kernel_us.size());
    by_latency_.resize(by_kernel_.size());
    for (size_t s = 0; s < brief.kernel_us.size(); ++s) {
      by_kernel_[s].add(brief.kernel_us[s], brief.latency_us[s], brief.candidate_id, place);
      by_latency_[s].add(brief.latency_us[s], 0, brief.candidate_id, place);
    }
  }

  size_t size() const { return places_.size(); }
  const Place& place(size_t i) const { return places_[i]; }
  const LeftOut& all() const { return all_; }

  // Those to read whole, in order.
  std::set<size_t> kept(const std::optional<Finish>& finish, uint64_t most) const {
    std::set<size_t> result = kept_;
    for (const BestPlaces& one : by_kernel_) one.add_to(result);
    for (const BestPlaces& one : by_latency_) one.add_to(result);
    std::set<std::string> named;
    if (finish) {
      for (const Winner& one : finish->winners) named.insert(one.candidate_id);
      for (const Claim& one : finish->claims) named.insert(one.candidate_id);
    }
    const size_t step = (places_.size() + most - 1) / most;
    for (size_t i = 0; i < places_.size(); ++i)
      if (i % step == 0 || named.count(places_[i].id)) result.insert(i);
    return result;
  }

 private:
  std::vector<Place> places_;
  std::set<size_t> kept_;
  std::vector<BestPlaces> by_kernel_, by_latency_;  // of each size
  LeftOut all_;
  double best_ = INFINITY;
};

// Everything but the records; those go into the digest.
void look_at_log(const fs::path& file, RunData& run, Digest& digest) {
  Sources none;
  uint64_t offset = 0;
  for (Lines lines(file); lines.next(); offset = lines.bytes()) {
    if (lines.text().empty()) continue;
    try {
      Brief brief;
      if (read_brief(lines.text(), brief)) {
        digest.add(brief, offset, lines.number());
        run.finish.reset();
        continue;
      }
    } catch (const std::exception& error) {
      if (lines.is_whole() && !lines.at_end()) refuse_line(file, lines.number(), error.what());
      run.cut = true;
      return;
    }
    const Json value = object_in(lines.text());
    run.cut = value.is_discarded();
    if (!run.cut) take_line_or_refuse(value, file, lines.number(), none, run);
  }
}

void read_kept(const fs::path& file, const Digest& digest, const std::set<size_t>& kept,
               RunData& run) {
  std::ifstream in(file, std::ios::binary);
  Sources sources;
  std::string text;
  for (size_t i = 0; i < digest.size(); ++i) {
    const bool keep = kept.count(i);
    if (!keep && !digest.place(i).has_source) continue;
    in.seekg(static_cast<std::streamoff>(digest.place(i).offset));
    std::getline(in, text);
    std::optional<Finish> finish = std::move(run.finish);
    take_line_or_refuse(object_in(text), file, digest.place(i).line, sources, run);
    run.finish = std::move(finish);
    if (!keep) run.records.pop_back();
  }
}

}  // namespace

RunData read_run_digest(const fs::path& dir, uint64_t most) {
  require_run(dir);
  const fs::path file = dir / kLogFile;
  std::error_code ignored;
  RunData run;
  run.meta = read_meta(dir);
  Digest digest;
  if (fs::exists(file, ignored)) look_at_log(file, run, digest);
  if (digest.size() <= most) return read_run(dir);
  read_kept(file, digest, digest.kept(run.finish, most), run);
  take_sizes(run);
  run.left_out = digest.all();
  run.left_out.records -= run.records.size();
  for (const Record& record : run.records) {
    run.left_out.statuses[record.verdict.status] -= 1;
    for (const auto& [stage, seconds] : record.verdict.seconds.items())
      if (seconds.is_number()) run.left_out.seconds[stage] -= seconds.get<double>();
  }
  return run;
}

}  // namespace mlx_kd::archive
