// Shedding records changes no choice.
#include "mlx_kd/discover/run/contenders.h"

#include <gtest/gtest.h>

#include "mlx_kd/base/random.h"
#include "mlx_kd/discover/choice.h"
#include "mlx_kd/discover/run/walk_records.h"

namespace mlx_kd::discover {
namespace {

constexpr size_t kSizesOfRuns = 3, kFinalists = 4;

archive::Record random_record(uint64_t step, base::Random& random) {
  archive::Record record;
  record.step = step;
  record.candidate_id = record.candidate.source = "k" + std::to_string(step);
  record.verdict.status = random.below(5) == 0 ? spec::Status::wrong : spec::Status::benchmarked;
  if (!is_benchmarked(record)) return record;
  for (size_t s = 0; s < kSizesOfRuns; ++s) {
    spec::SizeMetrics size;  // of few values, so that some are equal
    size.metrics.log_ratio = static_cast<double>(random.below(200)) / 100 - 1;
    record.verdict.sizes.push_back(size);
  }
  spec::summarise(record.verdict);
  if (random.below(50) == 0) record.notes["incumbent"] = true;
  return record;
}

archive::Brief brief_of(const archive::Record& record) {
  archive::Brief brief;
  brief.candidate_id = record.candidate_id;
  brief.benchmarked = is_benchmarked(record);
  brief.incumbent = record.notes.value("incumbent", false);
  brief.objective = record.verdict.objective;
  for (const auto& size : record.verdict.sizes) brief.log_ratios.push_back(size.metrics.log_ratio);
  return brief;
}

std::vector<std::string> chosen(const std::vector<archive::Record>& records) {
  std::vector<std::string> ids;
  for (const auto& of_size : choose_finalists(records, kSizesOfRuns, kFinalists))
    for (const auto& candidate : of_size) ids.push_back(candidate.source);
  const auto is_incumbent = [](const auto& one) { return one.notes.value("incumbent", false); };
  const auto anchor = std::find_if(records.begin(), records.end(), is_benchmarked);
  ids.push_back(anchor == records.end() ? "none" : anchor->candidate_id);
  const auto last = std::find_if(records.rbegin(), records.rend(), is_incumbent);
  ids.push_back(last == records.rend() ? "none" : last->candidate_id);
  return ids;
}

TEST(Contenders, AreAllThatAChoiceDependsOn) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    base::Random random(seed);
    std::vector<archive::Record> all;
    Contenders few(kSizesOfRuns, kFinalists, 20), read(kSizesOfRuns, kFinalists, 20);
    for (uint64_t step = 0; step < 500; ++step) {
      all.push_back(random_record(step, random));
      few.add(all.back());
      if (read.wants(brief_of(all.back()))) read.add(all.back());
    }
    EXPECT_LT(few.records().size(), 40u);
    EXPECT_LT(read.records().size(), 40u);
    EXPECT_EQ(chosen(few.records()), chosen(all)) << seed;
    EXPECT_EQ(chosen(read.records()), chosen(all)) << seed;
    Contenders whole(kSizesOfRuns, kFinalists, 0);
    for (const auto& record : all) whole.add(record);
    EXPECT_EQ(whole.records().size(), all.size());
    EXPECT_EQ(few.best()->candidate_id, whole.best()->candidate_id);
    EXPECT_EQ(read.best()->candidate_id, whole.best()->candidate_id);
  }
}

TEST(Contenders, OfFailuresAloneThereIsNoBest) {
  Contenders contenders(kSizesOfRuns, kFinalists, 5);
  archive::Record failed;
  failed.verdict.status = spec::Status::crashed;
  for (int i = 0; i < 30; ++i) contenders.add(failed);
  EXPECT_EQ(contenders.best(), nullptr);
  EXPECT_LT(contenders.records().size(), 10u);
}

}  // namespace
}  // namespace mlx_kd::discover
