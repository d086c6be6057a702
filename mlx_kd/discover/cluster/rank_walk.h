// The loop of a rank: propose of its share, evaluate, meet, learn what the others found.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "mlx_kd/archive/run/run_writer.h"
#include "mlx_kd/discover/cluster/introduction.h"
#include "mlx_kd/discover/cluster/rounds.h"
#include "mlx_kd/discover/cluster/shared_records.h"
#include "mlx_kd/discover/cluster/turn.h"
#include "mlx_kd/discover/run/search_loop.h"

namespace mlx_kd::discover {

class RankWalk {
 public:
  struct Parts {
    const RunRequest* request;
    RunSetup* setup;
    Ranks* ranks;
    const std::vector<Kind>* kinds;
    archive::RunWriter* own_log;            // of this rank
    std::vector<archive::RunWriter>* logs;  // rank 0: one a kind; empty elsewhere
    const Turn* turn;
    Listener* listener;
    const Interrupt* interrupt;
  };
  explicit RankWalk(const Parts& parts);

  // Of a run that continues: records of a kind that are in the logs of rank 0, then records that
  // ranks have kept. Alike on all ranks, before run().
  void know(size_t kind, const std::vector<archive::Record>& records, bool in_log);
  // Until the searches of all devices are over. Throws Stopped; fails where a rank is lost.
  void run();

  // Of this rank's device, all ranks', in the order of their steps.
  const std::vector<archive::Record>& records() const { return records_; }
  const std::vector<Visit>& visits() const { return visits_; }
  uint64_t benchmarked() const { return searches_[own_kind_].benchmarked; }
  size_t own_kind() const { return own_kind_; }
  SharedRecords& shared(size_t kind) { return searches_[kind].shared; }
  const std::set<std::string>& known(size_t kind) const { return searches_[kind].known; }

 private:
  struct Search {  // of a device
    Rounds rounds;
    SharedRecords shared;
    std::set<std::string> known;  // ids of candidates
    uint64_t next_step = 0;
    uint64_t benchmarked = 0;
    std::vector<archive::Record> to_log;  // of rank 0, until the end of the meeting
  };
  void begin();
  std::vector<archive::Record> evaluate();
  void evaluate(const std::vector<size_t>& proposed, std::vector<archive::Record>& found);
  void meet(const std::vector<archive::Record>& found);
  void merge(size_t kind, const std::vector<base::Json>& reports);
  void take(size_t kind, std::vector<archive::Record> records, int rank);
  void settle_anchor(size_t kind, std::vector<std::vector<archive::Record>> tried, bool settled);
  void keep(size_t kind, archive::Record record, int rank, bool in_log);
  size_t point_of(const archive::Record& record) const;
  void hear_of(const archive::Record& record);
  void learn();  // and, on rank 0, writes down what it heard
  void deal();
  void adopt();
  const archive::Record* incumbent() const;
  void show(const archive::Record& record, uint64_t number);

  Parts parts_;
  size_t own_kind_ = 0, place_ = 0;  // of this rank among the kinds, and among its ranks
  std::vector<Search> searches_;
  std::vector<archive::Record> records_;
  std::vector<Visit> visits_;               // of the records
  std::optional<size_t> best_;              // index into records_
  std::vector<search::Observation> heard_;  // not yet learned
  std::set<std::string> mine_;              // ids that the strategy has observed already
  std::string incumbent_;                   // id of what the evaluator times against
  std::optional<double> expected_gain_;
  uint64_t own_step_ = 0;  // in this rank's own log
};

}  // namespace mlx_kd::discover
