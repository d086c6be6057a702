#include "mlx_kd/archive/run/run_writer.h"

#include <algorithm>
#include <array>
#include <system_error>

#include "mlx_kd/archive/run/record_json.h"
#include "mlx_kd/archive/run/run_log.h"
#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/version.h"

namespace mlx_kd::archive {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& dir, const std::string& reason) {
  base::misuse("archive", dir.string() + " " + reason);
}

// What an atomic write leaves behind when it is killed: the file's name, "." and six letters.
bool is_leftover(const std::string& name) {
  static const std::array<std::string, 4> kWritten = {kMetaFile, kWinnersFile, "report.md",
                                                      "report.html"};
  for (const std::string& file : kWritten)
    if (name.size() == file.size() + 7 && name.rfind(file + ".", 0) == 0) return true;
  return false;
}

std::vector<std::string> names_in(const fs::path& dir) {
  std::error_code error;
  std::vector<std::string> names;
  for (auto at = fs::directory_iterator(dir, error); at != fs::end(at); at.increment(error))
    names.push_back(at->path().filename().string());
  if (error) refuse(dir, "cannot be read (" + error.message() + "): choose another folder");
  return names;
}

// Nothing in it but what a run leaves that was killed before it began.
bool is_blank(const fs::path& dir) {
  const auto names = names_in(dir);
  return std::all_of(names.begin(), names.end(), [](const std::string& name) {
    return name == kLockFile || is_leftover(name);
  });
}

void remove_leftovers(const fs::path& dir) {
  std::error_code ignored;
  for (const std::string& name : names_in(dir))
    if (is_leftover(name)) fs::remove(dir / name, ignored);
}

base::FileLock take_lock(const fs::path& dir) {
  auto lock = base::FileLock::try_take(dir / kLockFile, "archive");
  if (!lock)
    refuse(dir, "belongs to a run in progress: wait for it to end, or choose another folder");
  return std::move(*lock);
}

// Another process may be starting a run there: what it writes first makes it a run directory, so
// that is asked last.
void refuse_used(const fs::path& dir, bool locked) {
  const bool blank = is_blank(dir);
  if (is_run_dir(dir)) {
    if (!locked) {
      // Asks without leaving a lock file behind in a folder that is not ours to write.
      if (fs::exists(dir / kLockFile)) take_lock(dir);
    }
    refuse(dir, "holds a run already: add --resume to go on with it, or choose another folder");
  }
  if (!blank) refuse(dir, "is not empty and holds no run: choose another folder");
}

std::string sizes_text(const std::vector<spec::Dims>& sizes) {
  std::string text;
  for (const spec::Dims& size : sizes) text += (text.empty() ? "" : "; ") + size.text();
  return text;
}

std::string runtime_text(const RunMeta& meta, const char* key) {
  const base::Json value = meta.runtime.value(key, base::Json("unknown"));
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// Which rules of proof the run's records passed. Before it was a number there was one set of rules.
std::string proof_version(const RunMeta& meta) {
  const base::Json proof = meta.protocol_settings.value("proof", base::Json::object());
  return proof.value("version", base::Json(1)).dump();
}

struct Field {
  const char* name;
  std::string there, asked;
};

// All that must be the same for a run to be the same run.
std::vector<Field> identity(const RunMeta& there, const RunMeta& asked) {
  return {{"op", there.op_name, asked.op_name},
          {"seed", std::to_string(there.seed), std::to_string(asked.seed)},
          {"dtype", there.dtype, asked.dtype},
          {"suite", there.shape_suite, asked.shape_suite},
          {"sizes", sizes_text(there.sizes),
           sizes_text(there.sizes == asked.sizes ? there.sizes : asked.sizes)},
          {"device", there.device, asked.device},
          {"device_arch", runtime_text(there, "device_arch"), runtime_text(asked, "device_arch")},
          {"device_name", runtime_text(there, "device_name"), runtime_text(asked, "device_name")},
          {"target", there.target.dump(), asked.target.dump()},
          {"MLX version", runtime_text(there, "mlx_version"), runtime_text(asked, "mlx_version")},
          {"mlx-kd version", there.mlx_kd_version, asked.mlx_kd_version},
          {"protocol", there.protocol, asked.protocol},
          {"proof version", proof_version(there), proof_version(asked)},
          {"options", there.options.dump(), asked.options.dump()}};
}

void write_meta(const fs::path& dir, const RunMeta& meta) {
  const std::string text =
      to_json(meta).dump(2, ' ', false, base::OrderedJson::error_handler_t::replace);
  base::write_file_atomically(dir / kMetaFile, text + "\n", "archive");
}

}  // namespace

RunWriter::RunWriter(fs::path dir, base::FileLock lock)
    : dir_(std::move(dir)), lock_(std::move(lock)) {}

RunWriter RunWriter::create(const fs::path& dir, RunMeta meta) {
  // A folder that is there in the end; the same as before if it cannot be one.
  std::error_code error;
  if (fs::exists(dir, error) && !fs::is_directory(dir, error))
    refuse(dir, "is a file: choose a folder for --out");
  fs::create_directories(dir, error);
  if (error)
    refuse(dir, "cannot be made (" + error.message() + "): choose a folder you may write to");
  refuse_used(dir, /*locked=*/false);
  RunWriter writer(dir, take_lock(dir));
  refuse_used(dir, /*locked=*/true);  // another process may have come first
  writer.start(std::move(meta));
  return writer;
}

RunWriter RunWriter::resume(const fs::path& dir, RunMeta meta, const OldRecords& old) {
  if (!is_run_dir(dir)) return create(dir, std::move(meta));
  RunWriter writer(dir, take_lock(dir));
  writer.go_on(meta, old);
  return writer;
}

void RunWriter::start(RunMeta meta) {
  remove_leftovers(dir_);
  if (meta.created_at.empty()) meta.created_at = base::iso_time_now();
  if (meta.mlx_kd_version.empty()) meta.mlx_kd_version = base::version();
  so_far_.meta = std::move(meta);
  write_meta(dir_, so_far_.meta);
  log_ = std::make_unique<base::AppendFile>(dir_ / kLogFile, "archive");
}

void RunWriter::go_on(RunMeta meta, const OldRecords& old) {
  if (meta.mlx_kd_version.empty()) meta.mlx_kd_version = base::version();
  so_far_.meta = read_meta(dir_);
  std::string differences;
  for (const Field& field : identity(so_far_.meta, meta))
    if (field.there != field.asked)
      differences += (differences.empty() ? "" : ", ") + std::string(field.name) + " (there '" +
                     field.there + "', asked '" + field.asked + "')";
  if (!differences.empty())
    refuse(dir_, "holds another run: it differs in " + differences +
                     ": ask for the same, or choose another folder");
  LogText log = read_log(dir_, so_far_, old);
  std::error_code error;
  if (so_far_.cut) fs::resize_file(dir_ / kLogFile, log.whole_bytes, error);
  if (error)
    base::fail("archive", "cannot repair " + (dir_ / kLogFile).string() + " (" + error.message() +
                              "): check its rights");
  remove_leftovers(dir_);
  written_sources_ = std::move(log.sources);
  log_ = std::make_unique<base::AppendFile>(dir_ / kLogFile, "archive");
  if (log.needs_newline) log_->append("\n");
  if (so_far_.meta.budget == meta.budget) return;
  so_far_.meta.budget = meta.budget;
  write_meta(dir_, so_far_.meta);
}

std::string RunWriter::line_of(Record record) {
  if (record.candidate_id.empty()) record.candidate_id = record.candidate.id();
  if (record.ts.empty()) record.ts = base::iso_time_now();
  const std::string hash = record.candidate.source_hash();
  const bool first = !written_sources_.count(hash);
  written_sources_.insert(hash);
  return to_line(record, so_far_.meta.seed, first) + "\n";
}

void RunWriter::append(Record record) {
  append_all({std::move(record)});
}

void RunWriter::append_all(std::vector<Record> records) {
  std::string lines;
  for (Record& record : records) lines += line_of(std::move(record));
  if (!lines.empty()) log_->append(lines);
}

void RunWriter::append(Finish finish) {
  if (finish.ts.empty()) finish.ts = base::iso_time_now();
  log_->append(to_line(finish) + "\n");
}

void RunWriter::write_winners(std::string_view text) const {
  base::write_file_atomically(dir_ / kWinnersFile, text, "archive");
}

}  // namespace mlx_kd::archive
