#include "mlx_kd/discover/cluster/folders.h"

#include <algorithm>
#include <system_error>

#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/files.h"

namespace mlx_kd::discover {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRanks = "ranks";
constexpr const char* kFinished = "finished.json";

std::vector<fs::path> folders_of(const fs::path& out, const std::string& tag) {
  std::vector<fs::path> result;
  std::error_code error;
  for (auto at = fs::directory_iterator(out / kRanks, error); at != fs::end(at);
       at.increment(error))
    if (at->path().filename().string().ends_with("-" + tag) && archive::is_run_dir(at->path()))
      result.push_back(at->path());
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace

fs::path device_folder(const fs::path& out, const Kind& kind, bool first) {
  return first ? out : out / "devices" / kind.tag;
}

fs::path rank_folder(const fs::path& out, const Kind& kind, int rank) {
  return out / kRanks / (std::to_string(rank) + "-" + kind.tag);
}

bool has_ranks(const fs::path& out) {
  std::error_code error;
  return fs::is_directory(out / kRanks, error);
}

archive::RunWriter open_folder(const fs::path& dir, bool resume, const archive::RunMeta& meta) {
  return resume ? archive::RunWriter::resume(dir, meta) : archive::RunWriter::create(dir, meta);
}

std::vector<archive::Record> left_behind(const fs::path& out, const Kind& kind,
                                         std::set<std::string> known) {
  std::vector<archive::Record> result;
  for (const fs::path& folder : folders_of(out, kind.tag))
    for (archive::Record& record : archive::read_run(folder).records)
      if (known.insert(record.candidate_id).second) result.push_back(std::move(record));
  return result;
}

void remove_finished(const fs::path& out) {
  std::error_code ignored;
  fs::remove(out / kFinished, ignored);
}

void write_finished(const fs::path& out, const base::OrderedJson& what) {
  base::write_file_atomically(out / kFinished, what.dump(2) + "\n", "discover");
}

}  // namespace mlx_kd::discover
