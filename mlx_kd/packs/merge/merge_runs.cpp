#include "mlx_kd/packs/merge/merge_runs.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/packs/merge/winners.h"

namespace mlx_kd::packs {
namespace {

constexpr unsigned kMostReaders = 8;  // beyond, the merge itself takes the time

// Of several runs that cannot be read the first one's error is thrown: all before it were taken.
class Readers {
 public:
  Readers(const std::vector<std::string>& runs,
          const std::function<void(const std::string&, Pack)>& take)
      : runs_(&runs), take_(&take) {}

  void run() {
    const unsigned count = std::clamp(std::thread::hardware_concurrency(), 1u, kMostReaders);
    std::vector<std::jthread> threads;
    for (unsigned i = 1; i < count && i < runs_->size(); ++i)
      threads.emplace_back([this] { read(); });
    read();
    threads.clear();
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void read() {
    while (!failed_) {
      const size_t i = next_++;
      if (i >= runs_->size()) return;
      try {
        (*take_)((*runs_)[i], read_some_winners((*runs_)[i]));
      } catch (...) {
        keep(i, std::current_exception());
      }
    }
  }

  void keep(size_t i, std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (!error_ || i < first_) first_ = i, error_ = std::move(error);
    failed_ = true;
  }

  const std::vector<std::string>* runs_;
  const std::function<void(const std::string&, Pack)>* take_;
  std::atomic<size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
  std::mutex mutex_;
  size_t first_ = 0;
  std::exception_ptr error_;
};

std::string file_word(const std::string& text) {
  const std::string word = base::file_word(text);
  return word.empty() ? "unnamed" : word.substr(0, 100);
}

std::string file_of(const Entry& entry, SplitBy split) {
  std::string name;
  if (split.device) name = file_word(entry.key.device_name + " " + entry.key.device_arch);
  if (split.op) name += (name.empty() ? "" : "-") + file_word(entry.key.op_name);
  return name + ".json";
}

void write_one(const fs::path& out, const std::string& text) {
  const fs::path place = behind_links(out);
  check_output(place);
  const base::FileLock lock = base::FileLock::take(place.string() + ".lock", "packs");
  base::write_file_atomically(place, text, "packs");
}

}  // namespace

MergeResult merge_runs(const std::vector<std::string>& runs, const MergeOptions& options) {
  Merger merger(options);
  const std::function<void(const std::string&, Pack)> add = [&](const std::string& run, Pack pack) {
    merger.add(run, std::move(pack));
  };
  Readers(runs, add).run();
  return merger.finish();
}

Pack contested(const std::vector<std::string>& runs, const MergeResult& merged) {
  std::set<PinOrder> pins;
  for (const Disagreement& one : merged.disagreements)
    pins.insert(order_of(merged.pack.entries[one.winner]));
  std::map<std::pair<PinOrder, std::string>, Entry> kernels;
  std::mutex mutex;
  const std::function<void(const std::string&, Pack)> add = [&](const std::string&, Pack pack) {
    for (Entry& entry : pack.entries) {
      PinOrder order = order_of(entry);
      if (!pins.count(order)) continue;
      const std::lock_guard lock(mutex);
      kernels.try_emplace({std::move(order), entry.candidate_id}, std::move(entry));
    }
  };
  if (!pins.empty()) Readers(runs, add).run();
  Pack result;
  result.runtime = merged.pack.runtime;
  for (auto& [key, entry] : kernels) result.entries.push_back(std::move(entry));
  return result;
}

SplitBy SplitBy::parse(const std::string& text) {
  SplitBy result;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (word == "device")
      result.device = true;
    else if (word == "op")
      result.op = true;
    else
      base::misuse("packs", "cannot split by '" + word + "': say device, op or device,op");
    at = end + 1;
  }
  return result;
}

void check_merge_output(const fs::path& out, SplitBy split) {
  if (!split) {
    check_output(behind_links(out));
    check_is_pack(out);  // what is not a pack is not written over
    return;
  }
  std::error_code ignored;
  if (fs::exists(out, ignored) && !fs::is_directory(out, ignored))
    base::misuse("packs", out.string() +
                              " is not a folder: --split-by writes one pack per file into "
                              "the folder that --out names");
  check_output(out / "any.json");
}

std::vector<fs::path> write_merged(Pack merged, const fs::path& out, SplitBy split) {
  std::map<fs::path, Pack> parts;
  for (Entry& entry : merged.entries) {
    Pack& part = parts[split ? out / file_of(entry, split) : out];
    if (part.entries.empty()) part.runtime = merged.runtime, part.other = merged.other;
    part.entries.push_back(std::move(entry));
  }
  std::map<fs::path, std::string> texts;
  for (auto& [path, part] : parts) {
    check_merge_output(path);
    texts[path] = write_text(std::exchange(part, {}));
  }
  std::vector<fs::path> files;
  for (const auto& [path, text] : texts) {
    write_one(path, text);
    files.push_back(path);
  }
  return files;
}

}  // namespace mlx_kd::packs
