// What a cluster run costs per meeting and what stale knowledge costs the search, at 1 to 1,000
// ranks, without a cluster.
//
//   bench_cluster_simulation costs FILE [ranks...]
//   bench_cluster_simulation search FILE FOLDER ranks batch rounds repeats [spaces a kernel (all)]
//
// costs: one rank's part of a meeting, on the null device with rmsnorm's space and sizes, --batch
// 8: bytes of its report and of all; the time to write its own, read all, learn from them and
// propose the next batch; on rank 0 the time to append them to the log; and for the hub of rank 0,
// from the last "ready" over real connections of this machine to the last "meet". No network is in
// it.
//
// search: FOLDER holds <kernel>/<device>.json.gz caches. Every rank is a strategy of its own that
// observes its evaluations at once and those of the others after the round, as in a run. Written
// are, after each round, the evaluations of all ranks and the regret (0.03: the best found is 3 %
// slower than the best there is), its mean over spaces and repeats, and the 95 % interval of
// that over resampled walks.
//
// Each call replaces its rows in FILE: {"date", "kd_version", "machine", "costs": [...], "search":
// [...]}.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "bench/cluster_search.h"
#include "mlx_kd/archive/run/run_writer.h"
#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/base/version.h"
#include "mlx_kd/discover/cluster/rounds.h"
#include "mlx_kd/discover/cluster/shared_records.h"
#include "mlx_kd/discover/ranks/ranks.h"
#include "mlx_kd/discover/run/run_setup.h"
#include "mlx_kd/discover/run/walk_records.h"

namespace {

using namespace mlx_kd;
namespace fs = std::filesystem;

constexpr uint64_t kBatch = 8;

class Quiet : public discover::Listener {
 public:
  void stage(const std::string&) override {}
  void trying(const spec::Candidate&, uint64_t) override {}
  void evaluated(const discover::Step&) override {}
  void note(const std::string&) override {}
};

// --- costs of a meeting ---

// Records of the null device for points, with the rank that measured each.
std::vector<archive::Record> records_of(const discover::RunSetup& setup,
                                        const std::vector<size_t>& points) {
  std::vector<spec::Candidate> batch;
  for (const size_t point : points)
    batch.push_back(setup.space.candidate(setup.points.setting(point)));
  std::vector<archive::Record> records;
  setup.evaluator->evaluate(batch, [&](size_t i, const spec::Verdict& verdict) {
    records.push_back(discover::make_record(
        setup.features, {&batch[i], points[i], &verdict, records.size(), batch[0].id(), {}}));
  });
  return records;
}

std::string report_of(const discover::SharedRecords& shared,
                      const std::vector<archive::Record>& records) {
  base::Json report = discover::to_json(discover::RoundReport{records.size(), true, false});
  report["records"] = shared.lines_of(records, false);
  return report.dump();
}

std::vector<search::Observation> observations_of(const discover::RunSetup& setup,
                                                 const std::vector<archive::Record>& records) {
  std::vector<search::Observation> result;
  for (const archive::Record& record : records)
    result.push_back(
        discover::observation_of(setup.points.find(setup.space.point(record.candidate)), record));
  return result;
}

class MeetingCosts {
 public:
  explicit MeetingCosts(size_t ranks) : ranks_(ranks), setup_(request(ranks), quiet_) {}

  // The second meeting after the anchor: the first makes the models.
  base::OrderedJson measure() {
    anchor();
    meet();
    return meet();
  }

 private:
  static const discover::RunRequest& request(size_t ranks) {
    static discover::RunRequest request;
    request.op_name = "rmsnorm";
    request.device = "null";
    request.budget = 3 * kBatch * ranks;
    request.out = "unused";
    return request;
  }

  void anchor() {
    const auto records = records_of(setup_, setup_.strategy->propose(1));
    shared_.read(shared_.lines_of(records, true));
    setup_.strategy->observe_all(observations_of(setup_, records));
    if (ranks_ > 1) setup_.strategy->take_share(0, ranks_);
    taken_.insert(records[0].candidate_id);
  }

  std::vector<archive::Record> of_another_rank() {
    std::vector<size_t> points;
    while (points.size() < kBatch) {
      const size_t point = random_.below(setup_.points.size());
      if (taken_.insert(std::to_string(point)).second) points.push_back(point);
    }
    return records_of(setup_, points);
  }

  base::OrderedJson meet() {
    const auto own = records_of(setup_, setup_.strategy->propose(kBatch));
    std::vector<std::string> reports;
    const double write_ms = ms([&] { reports.push_back(report_of(shared_, own)); });
    while (reports.size() < ranks_) reports.push_back(report_of(shared_, of_another_rank()));
    size_t bytes = 0;
    for (const std::string& report : reports) bytes += report.size();
    std::vector<archive::Record> records;
    const double read_ms = ms([&] {
      for (const std::string& report : reports)
        for (archive::Record& record :
             shared_.read(base::parse_json(report, "bench", "a report").at("records")))
          records.push_back(std::move(record));
    });
    const double learn_ms =
        ms([&] { setup_.strategy->observe_all(observations_of(setup_, records)); });
    const double append_ms = appended(records);
    const double propose_ms = ms([&] { setup_.strategy->propose(kBatch); });
    return {{"ranks", ranks_},
            {"batch", kBatch},
            {"records_known", seen_ += records.size()},
            {"report_bytes", reports[0].size()},
            {"meeting_bytes", bytes},
            {"write_ms", write_ms},
            {"read_ms", read_ms},
            {"learn_ms", learn_ms},
            {"propose_ms", propose_ms},
            {"append_ms", append_ms}};
  }

  double appended(const std::vector<archive::Record>& records) const {
    const fs::path dir = fs::temp_directory_path() / ("kd_costs_" + std::to_string(getpid()));
    fs::remove_all(dir);
    auto log = archive::RunWriter::create(dir, setup_.meta);
    const double result = ms([&] { log.append_all(records); });
    fs::remove_all(dir);
    return result;
  }

  template <class Work>
  static double ms(const Work& work) {
    const int64_t start = base::steady_ns();
    work();
    return 1e3 * base::seconds_since(start);
  }

  Quiet quiet_;
  size_t ranks_;
  discover::RunSetup setup_;
  discover::SharedRecords shared_{0, setup_.sizes.sizes};
  base::Random random_{0};
  std::set<std::string> taken_;
  size_t seen_ = 0;
};

// All ranks of a hub in one process: how long from the last "ready" to the last "meet".
double hub_ms(int ranks) {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const discover::RankLimits limits;
  discover::Hub hub({"127.0.0.1", "secret", ranks, limits});
  std::vector<std::unique_ptr<discover::Member>> members;
  for (int rank = 0; rank < ranks; ++rank)
    members.push_back(std::make_unique<discover::Member>(
        discover::Member::Settings{"127.0.0.1", hub.port(), "secret", rank, limits, [] {}}));
  std::vector<double> took;
  for (int meeting = 0; meeting < 5; ++meeting) {
    std::atomic<int> waiting{0};
    std::atomic<int64_t> last_ns{0};
    std::vector<std::thread> threads;
    for (int rank = 1; rank < ranks; ++rank)
      threads.emplace_back([&, rank] {
        ++waiting;
        members[static_cast<size_t>(rank)]->await_meeting(false);
        const int64_t now = base::steady_ns();
        for (int64_t seen = last_ns; seen < now && !last_ns.compare_exchange_weak(seen, now);)
          continue;
      });
    while (waiting < ranks - 1) usleep(1000);
    usleep(200000);
    const int64_t start = base::steady_ns();
    members[0]->await_meeting(false);
    for (std::thread& thread : threads) thread.join();
    took.push_back(1e-6 * static_cast<double>(std::max<int64_t>(last_ns, start) - start));
  }
  std::sort(took.begin(), took.end());
  return took[took.size() / 2];
}

base::OrderedJson costs(const std::vector<size_t>& ranks) {
  base::OrderedJson rows = base::OrderedJson::array();
  for (const size_t count : ranks) {
    base::OrderedJson row = MeetingCosts(count).measure();
    row["hub_ms"] = hub_ms(static_cast<int>(count));
    rows.push_back(row);
  }
  return rows;
}

// --- the file ---

std::string processor() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  return "unknown";
}

base::OrderedJson read_rows(const fs::path& file) {
  if (fs::exists(file)) return base::OrderedJson::parse(base::read_file(file, "bench"));
  return {{"costs", base::OrderedJson::array()}, {"search", base::OrderedJson::array()}};
}

void replace_row(base::OrderedJson& rows, const base::OrderedJson& row) {
  for (auto& old : rows)
    if (old["ranks"] == row["ranks"] && old["batch"] == row["batch"]) {
      old = row;
      return;
    }
  rows.push_back(row);
}

void write_rows(const fs::path& file, const std::string& part, const base::OrderedJson& rows) {
  base::OrderedJson all = read_rows(file);
  for (const auto& row : rows) replace_row(all[part], row);
  const base::OrderedJson result = {{"date", base::iso_time_now().substr(0, 10)},
                                    {"kd_version", base::version()},
                                    {"machine", processor()},
                                    {"costs", all["costs"]},
                                    {"search", all["search"]}};
  base::write_file_atomically(file, result.dump(1) + "\n", "bench");
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string what = argc > 2 ? argv[1] : "";
  const auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
  if (what == "costs") {
    std::vector<size_t> ranks;
    for (int i = 3; i < argc; ++i) ranks.push_back(number(i));
    if (ranks.empty()) ranks = {1, 10, 100, 1000};
    write_rows(argv[2], what, costs(ranks));
  } else if (what == "search" && argc > 7) {
    const bench::Shape shape{number(4), number(5), number(6), number(7)};
    const size_t each = argc > 8 ? number(8) : SIZE_MAX;
    write_rows(argv[2], what, base::OrderedJson::array({bench::search_row(argv[3], shape, each)}));
  } else {
    std::fprintf(stderr,
                 "usage: %s costs FILE [ranks...]\n"
                 "       %s search FILE FOLDER ranks batch rounds repeats [spaces a kernel]\n",
                 argv[0], argv[0]);
    return 2;
  }
} catch (const mlx_kd::base::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
