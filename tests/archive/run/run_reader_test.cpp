#include "mlx_kd/archive/run/run_reader.h"

#include <gtest/gtest.h>

#include "mlx_kd/archive/report/analysis.h"
#include "mlx_kd/archive/report/report.h"
#include "mlx_kd/base/error.h"
#include "tests/archive/synthetic_run.h"
#include "tests/archive/temporary_folder.h"

namespace mlx_kd::archive {
namespace {

constexpr const char* kFirstVersionMeta =
    R"({"schema_version": "1", "created_at": "2025-01-02T03:04:05+00:00", "op_name": "rmsnorm",
        "seed": 0, "budget": 2, "dtype": "float16", "shape_suite": "glm_flash_small",
        "runtime": {"mlx_version": "0.30.1", "device_name": "Apple M4", "device_arch": "applegpu"},
        "host": "studio"})";

constexpr const char* kFirstVersionLog =
    R"({"candidate_id":"rmsnorm_0011","event":"evaluation","features":{"tg":0.5},"func_name":"k","inputs_spec":[],"launch_params":{"threadgroup_x":256},"metal_source":"uint i;","metrics":{"bogus":1,"correctness_max_abs_err":0.001,"dtype":"float16","latency_us":11.5,"per_shape":[{"baseline_us":20.0,"latency_us":11.5,"max_abs_err":0.001,"p10_us":11.0,"shape":{"D":2048,"rows":128},"speedup_vs_ref":1.7}],"speedup_vs_ref":1.7},"notes":"","op_name":"rmsnorm","outputs_spec":[],"parent_id":null,"seed":0,"status":"ok","step":0,"template_params":{"TG":256,"eps":1e-06},"ts":"2025-01-02T03:04:06+00:00"}
{"candidate_id":"rmsnorm_0012","event":"failure","metrics":null,"op_name":"rmsnorm","reason":"does not compile","status":"build_failed","step":1,"template_params":{"TG":512,"eps":1e-06}}
{"event":"note of a later version"}
)";

void put_run(const std::filesystem::path& dir, const std::string& meta, const std::string& log) {
  std::filesystem::create_directories(dir);
  put(dir / "run_meta.json", meta);
  put(dir / "run.ndjson", log);
}

TEST(RunReader, ReadsTheFirstVersion) {
  TemporaryFolder folder;
  put_run(folder / "a", kFirstVersionMeta, kFirstVersionLog);
  const RunData run = read_run(folder / "a");
  ASSERT_EQ(run.records.size(), 2u);
  const Record& good = run.records[0];
  EXPECT_EQ(good.candidate.language, "metal");
  EXPECT_EQ(good.candidate.source, "uint i;");
  EXPECT_EQ(good.candidate.knobs, spec::Setting({{"TG", 256}}));
  EXPECT_EQ(good.candidate.template_params["eps"], 1e-6);
  EXPECT_EQ(good.verdict.status, spec::Status::benchmarked);
  EXPECT_EQ(good.verdict.sizes.at(0).metrics.correctness_max_abs_err, 0.001);
  EXPECT_EQ(good.verdict.sizes.at(0).metrics.latency_us, 11.5);
  EXPECT_EQ(run.records[1].verdict.reason, "does not compile");
  EXPECT_NE(run.records[1].verdict.status, spec::Status::benchmarked);
  EXPECT_EQ(run.meta.sizes, (std::vector<spec::Dims>{{{"rows", 128}, {"D", 2048}}}));
  EXPECT_EQ(run.meta.extra["host"], "studio");
}

std::vector<std::vector<std::string>> best_of_sizes(const RunData& run) {
  std::vector<std::vector<std::string>> result;
  for (const SizeResult& size : size_results(run)) {
    auto& ids = result.emplace_back();
    for (size_t i = 0; i < 10 && i < size.ranked.size(); ++i)
      ids.push_back(size.ranked[i]->candidate_id);
  }
  return result;
}

TEST(RunDigest, KeepsWhatAReportNamesAndCountsTheRest) {
  TemporaryFolder folder;
  write_run(folder / "a", synthetic_run(3, 240));
  const RunData whole = read_run(folder / "a"), digest = read_run_digest(folder / "a", 16);
  EXPECT_LT(digest.records.size(), 200u);
  EXPECT_EQ(digest.left_out.records, 240 - digest.records.size());
  EXPECT_EQ(report_table(digest), report_table(whole));
  EXPECT_EQ(best_of_sizes(digest), best_of_sizes(whole));
  const base::Json of_digest = report_json(digest), of_whole = report_json(whole);
  for (const char* part : {"evaluated", "finished", "sizes", "failures", "aa", "seconds"})
    EXPECT_EQ(of_digest.at(part), of_whole.at(part)) << part;
  EXPECT_NE(report_markdown(digest).find("240 evaluated"), std::string::npos);
  EXPECT_NE(report_html(digest).find("Of 240 evaluations, "), std::string::npos);
  const auto best = best_so_far(scores(digest)), best_of_all = best_so_far(scores(whole));
  EXPECT_EQ(best.back(), best_of_all.back());
  const auto steps = steps_of(digest);
  for (size_t i = 0; i < steps.size(); ++i)
    EXPECT_EQ(best[i], best_of_all[static_cast<size_t>(steps[i]) - 1]);
  for (const Record& record : digest.records) EXPECT_FALSE(record.candidate.source.empty());
}

TEST(RunDigest, OfAShortRunIsTheRun) {
  TemporaryFolder folder;
  write_run(folder / "a", synthetic_run(3, 50));
  const RunData digest = read_run_digest(folder / "a", 50);
  EXPECT_EQ(digest.records.size(), 50u);
  EXPECT_EQ(digest.left_out.records, 0u);
}

TEST(RunDigest, OfARunThatWasBrokenOffHasNoWinners) {
  TemporaryFolder folder;
  RunData run = synthetic_run(3, 120);
  run.finish.reset();
  write_run(folder / "a", run);
  put(folder / "a/run.ndjson", text_of(folder / "a/run.ndjson") + "{\"event\":\"evaluat");
  const RunData whole = read_run(folder / "a"), digest = read_run_digest(folder / "a", 20);
  EXPECT_TRUE(digest.cut);
  EXPECT_FALSE(digest.finish);
  EXPECT_EQ(digest.left_out.records, 120 - digest.records.size());
  const auto spent = time_spent(digest), spent_of_all = time_spent(whole);
  ASSERT_EQ(spent.size(), spent_of_all.size());
  for (size_t i = 0; i < spent.size(); ++i) {
    EXPECT_EQ(spent[i].first, spent_of_all[i].first);
    EXPECT_NEAR(spent[i].second, spent_of_all[i].second, 1e-9);
  }
}

TEST(RunDigest, NamesALineThatIsNoRecord) {
  TemporaryFolder folder;
  write_run(folder / "a", synthetic_run(3, 30));
  std::string text = text_of(folder / "a/run.ndjson");
  text.insert(text.find('\n') + 1, "[7]\n");
  put(folder / "a/run.ndjson", text);
  try {
    read_run_digest(folder / "a", 10);
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_NE(std::string(error.what()).find("line 2"), std::string::npos) << error.what();
  }
}

TEST(RunReader, LeavesOutACutLastLineAndTouchesNothing) {
  TemporaryFolder folder;
  write_run(folder / "a", synthetic_run(0, 3));
  const std::string text = text_of(folder / "a/run.ndjson") + "{\"event\":\"evaluat";
  put(folder / "a/run.ndjson", text);
  const RunData run = read_run(folder / "a");
  EXPECT_TRUE(run.cut);
  EXPECT_EQ(run.records.size(), 3u);
  EXPECT_TRUE(run.finish);
  EXPECT_EQ(text_of(folder / "a/run.ndjson"), text);
}

TEST(RunReader, NamesTheLineThatIsGarbage) {
  TemporaryFolder folder;
  write_run(folder / "a", synthetic_run(0, 3));
  const std::string text = text_of(folder / "a/run.ndjson");
  const size_t second = text.find('\n') + 1, third = text.find('\n', second) + 1;
  for (const std::string garbage :
       {"garbage\n", "[1]\n", "{\"event\":\"evaluation\"}\n", "{}\n", "{\"event\":3}\n",
        "{\"event\":\"evaluation\",\"op_name\":\"x\",\"candidate_id\":\"y\",\"source_hash\":\"0\"}"
        "\n",
        "\xff\xfe\n"}) {
    put(folder / "a/run.ndjson", text.substr(0, second) + garbage + text.substr(third));
    const auto message = message_of([&] { read_run(folder / "a"); });
    EXPECT_NE(message.find("run.ndjson line 2 is not a record"), std::string::npos)
        << garbage << message;
    EXPECT_EQ(message.rfind("[archive] ", 0), 0u);
  }
}

TEST(RunReader, ReadsARunThatWasKilledBeforeItsFirstRecord) {
  TemporaryFolder folder;
  { const RunWriter writer = RunWriter::create(folder / "a", synthetic_meta()); }
  std::filesystem::remove(folder / "a/run.ndjson");
  EXPECT_TRUE(read_run(folder / "a").records.empty());
}

TEST(RunReader, RefusesWhatIsNoRun) {
  TemporaryFolder folder;
  put(folder / "file", "x");
  std::filesystem::create_directory(folder / "empty");
  EXPECT_THROW(read_run(folder / "missing"), base::Error);
  EXPECT_THROW(read_run(folder / "file"), base::Error);
  EXPECT_THROW(read_run(folder / "empty"), base::Error);
  for (const char* meta :
       {"", "[]", "{}", "{\"op_name\": 3, \"seed\": 0, \"budget\": 1, \"dtype\": \"float16\"}",
        "{\"op_name\": \"x\", \"seed\": 0, \"budget\": 1, \"dtype\": \"float16\", \"sizes\": "
        "[1]}",
        "{\"op_name\": \"x\", \"seed\": 1e300, \"budget\": 1, \"dtype\": \"float16\"}",
        "{\"op_name\": \"x\", \"seed\": 0, \"budget\": -1, \"dtype\": \"float16\"}"}) {
    put_run(folder / "bad", meta, "");
    EXPECT_EQ(message_of([&] { read_run(folder / "bad"); }).rfind("[archive] ", 0), 0u) << meta;
  }
  put_run(folder / "newer", "{\"schema_version\": \"4\"}", "");
  EXPECT_NE(message_of([&] { read_run(folder / "newer"); }).find("use a newer mlx-kd"),
            std::string::npos);
}

}  // namespace
}  // namespace mlx_kd::archive
