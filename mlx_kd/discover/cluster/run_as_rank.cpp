#include "mlx_kd/discover/cluster/run_as_rank.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "mlx_kd/archive/report/report.h"
#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/discover/cluster/agreement.h"
#include "mlx_kd/discover/cluster/folders.h"
#include "mlx_kd/discover/cluster/introduction.h"
#include "mlx_kd/discover/cluster/rank_walk.h"
#include "mlx_kd/discover/cluster/turn.h"
#include "mlx_kd/discover/run/finalise.h"
#include "mlx_kd/packs/merge/merge.h"

namespace mlx_kd::discover {
namespace {

class RankRun {
 public:
  RankRun(const RunRequest& request, Ranks& ranks, Listener& listener, Interrupt& interrupt)
      : request_(request), ranks_(ranks), listener_(listener), interrupt_(interrupt) {}

  RunOutcome run() try {
    introduce();
    open();
    walk_->run();
    const auto conclusion = finish();
    RunOutcome outcome = outcome_of(finals(), conclusion);
    if (!logs_.empty()) write(outcome);
    outcome.interrupted = false;
    return outcome;
  } catch (const Stopped&) {
    write_reports();
    return walk_ ? outcome_of(finals(), std::nullopt) : RunOutcome{.interrupted = true};
  } catch (const base::Error& error) {
    ranks_.failed(error.what());
    write_reports();
    throw;
  }

 private:
  bool first() const { return ranks_.rank() == 0; }
  Finals finals() const {
    return {&request_,        setup_.get(),         &walk_->records(),
            &walk_->visits(), walk_->benchmarked(), nullptr};
  }
  void introduce();
  void tell_of_machines();
  void open();
  void share_log();
  void share_left_behind();
  std::optional<Conclusion> finish();
  void write(RunOutcome& outcome);
  std::string remark_on(size_t kind, const archive::Finish& finish) const;
  void write_reports() const;

  const RunRequest& request_;
  Ranks& ranks_;
  Listener& listener_;
  Interrupt& interrupt_;
  std::unique_ptr<RunSetup> setup_;
  std::optional<Interrupt::Attached> attached_;
  std::vector<Kind> kinds_;
  std::vector<archive::RunWriter> logs_;  // of rank 0: one a kind
  std::optional<archive::RunWriter> own_log_;
  std::optional<Turn> turn_;
  std::optional<RankWalk> walk_;
  std::vector<base::Json> endings_;  // of the kinds, as their first ranks sent them
};

void RankRun::introduce() {
  std::vector<Introduction> introductions;
  const auto texts = meet_all(ranks_, false, [&] {
    setup_ = std::make_unique<RunSetup>(request_, listener_);
    return to_text(introduction_of(request_, *setup_));
  });
  for (const std::string& text : texts) introductions.push_back(introduction_from(text));
  try {
    kinds_ = kinds_of(introductions, ranks_.processes());
  } catch (const base::Error& error) {  // the same everywhere
    if (!first()) throw ReportedElsewhere{error.exit_code()};
    throw;
  }
  attached_.emplace(interrupt_, *setup_->evaluator);
  turn_.emplace(*setup_, ranks_);
  tell_of_machines();
}

// Several ranks on one machine are seldom what was meant.
void RankRun::tell_of_machines() {
  for (int rank = 0; rank < ranks_.size(); ++rank) {
    const auto& processes = ranks_.processes();
    const std::string& machine = processes[static_cast<size_t>(rank)].machine;
    const auto same = [&](const ProcessName& one) { return one.machine == machine; };
    const auto begin = processes.begin();
    const bool is_first = std::find_if(begin, processes.end(), same) - begin == rank;
    const auto count = std::count_if(begin, processes.end(), same);
    if (is_first && count > 1)
      listener_.note("[discover] " + std::to_string(count) + " ranks are on one machine, " +
                     processes[static_cast<size_t>(rank)].host +
                     ": they share its cores and measure in turns, one rank of a device at a time");
  }
}

void RankRun::open() {
  meet_all(ranks_, false, [&] {
    if (!first()) return std::string();
    for (size_t kind = 0; kind < kinds_.size(); ++kind)
      logs_.push_back(open_folder(device_folder(request_.out, kinds_[kind], kind == 0),
                                  request_.resume, setup_->meta));
    remove_finished(request_.out);
    return std::string();
  });
  meet_all(ranks_, false, [&] {
    for (const Kind& kind : kinds_)
      if (std::find(kind.ranks.begin(), kind.ranks.end(), ranks_.rank()) != kind.ranks.end())
        own_log_.emplace(open_folder(rank_folder(request_.out, kind, ranks_.rank()),
                                     request_.resume, setup_->meta));
    return std::string();
  });
  walk_.emplace(RankWalk::Parts{&request_, setup_.get(), &ranks_, &kinds_, &*own_log_, &logs_,
                                &*turn_, &listener_, &interrupt_});
  if (!request_.resume) return;
  share_log();
  share_left_behind();
}

// What rank 0 has on record.
void RankRun::share_log() {
  const auto texts = meet_all(ranks_, false, [&] {
    base::Json mine = base::Json::array();
    for (size_t kind = 0; kind < logs_.size(); ++kind)
      mine.push_back(walk_->shared(kind).lines_of(logs_[kind].so_far().records, true));
    return mine.dump();
  });
  const base::Json all = base::parse_json(texts.front(), "discover", "the log of rank 0");
  for (size_t kind = 0; kind < kinds_.size(); ++kind)
    walk_->know(kind, walk_->shared(kind).read(all.at(kind)), true);
}

// What ranks had measured since their last meeting: the first rank of each machine looks.
void RankRun::share_left_behind() {
  const auto texts = meet_all(ranks_, false, [&] {
    const auto& processes = ranks_.processes();
    const std::string& machine = processes[static_cast<size_t>(ranks_.rank())].machine;
    const bool looks = std::find_if(processes.begin(), processes.end(),
                                    [&](const auto& one) { return one.machine == machine; }) -
                           processes.begin() ==
                       ranks_.rank();
    base::Json mine = base::Json::array();
    for (size_t kind = 0; kind < kinds_.size(); ++kind)
      mine.push_back(walk_->shared(kind).lines_of(
          looks ? left_behind(request_.out, kinds_[kind], walk_->known(kind))
                : std::vector<archive::Record>(),
          true));
    return mine.dump();
  });
  for (const std::string& text : texts) {
    const base::Json all = base::parse_json(text, "discover", "what a rank has kept");
    for (size_t kind = 0; kind < kinds_.size(); ++kind)
      walk_->know(kind, walk_->shared(kind).read(all.at(kind)), false);
  }
}

// The first rank of each device measures its finals.
std::optional<Conclusion> RankRun::finish() {
  std::optional<Conclusion> conclusion;
  const auto texts = meet_all(ranks_, true, [&] {
    if (kinds_[walk_->own_kind()].ranks.front() != ranks_.rank()) return std::string();
    const auto turn = turn_->take(interrupt_);
    conclusion = conclude(finals(), listener_, interrupt_);
    if (!conclusion) return std::string();
    return base::Json({{"finish", archive::to_line(*conclusion->finish)},
                       {"pack", packs::write_text(conclusion->pack)}})
        .dump();
  });
  if (!first()) return conclusion;
  for (const Kind& kind : kinds_)
    endings_.push_back(base::parse_json(texts.at(static_cast<size_t>(kind.ranks.front())),
                                        "discover", "the end of a device's search"));
  return conclusion;
}

std::string RankRun::remark_on(size_t kind, const archive::Finish& finish) const {
  const base::Json& device = kinds_[kind].device;
  return "On the device " + device.value("device_name", "") + " (" +
         device.value("device_kind", "") + ", " + std::to_string(kinds_[kind].ranks.size()) +
         " ranks) " + std::to_string(finish.winners.size()) + " of " +
         std::to_string(setup_->sizes.sizes.size()) +
         " sizes have a winner: " + logs_[kind].dir().string();
}

// Each device's folder is a run of its own; the pack of the first has the entries of all.
void RankRun::write(RunOutcome& outcome) {
  packs::Pack all;
  base::OrderedJson devices = base::OrderedJson::array();
  for (size_t kind = 0; kind < kinds_.size(); ++kind) {
    const auto finish = archive::finish_from_json(
        base::parse_json(endings_[kind].at("finish").get<std::string>(), "discover", "a finish"),
        setup_->sizes.sizes);
    const std::string text = endings_[kind].at("pack").get<std::string>();
    const packs::Pack pack = packs::parse_pack(text, "the winners of a device");
    logs_[kind].append(finish);
    if (kind > 0) logs_[kind].write_winners(text);
    if (kind > 0) outcome.remarks.push_back(remark_on(kind, finish));
    all.runtime = kind == 0 ? pack.runtime : packs::mixed_runtime(all.runtime, pack.runtime);
    all.entries.insert(all.entries.end(), pack.entries.begin(), pack.entries.end());
    devices.push_back({{"device", kinds_[kind].device},
                       {"ranks", kinds_[kind].ranks},
                       {"evaluated", walk_->known(kind).size()},
                       {"winners", finish.winners.size()}});
  }
  logs_.front().write_winners(packs::write_text(all));
  write_reports();
  write_finished(request_.out, {{"ranks", ranks_.size()},
                                {"devices", devices},
                                {"seconds", outcome.seconds},
                                {"finished_at", base::iso_time_now()}});
}

void RankRun::write_reports() const {
  for (const archive::RunWriter& log : logs_)
    archive::write_report(log.dir(), archive::read_run_digest(log.dir()));
}

}  // namespace

RunOutcome run_as_rank(const RunRequest& request, Ranks& ranks, Listener& listener,
                       Interrupt& interrupt) {
  struct Hook {
    Interrupt& interrupt;
    ~Hook() { interrupt.call_also(nullptr); }
  } const hook{interrupt};
  interrupt.call_also([&ranks] { ranks.stop(); });
  if (interrupt.raised()) ranks.stop();
  return RankRun(request, ranks, listener, interrupt).run();
}

}  // namespace mlx_kd::discover
