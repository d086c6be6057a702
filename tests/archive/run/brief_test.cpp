// Records looked at briefly say what they say when they are read whole.
#include "mlx_kd/archive/run/brief.h"

#include <gtest/gtest.h>

#include <sstream>

#include "mlx_kd/archive/run/record_json.h"
#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/error.h"
#include "tests/archive/synthetic_run.h"
#include "tests/archive/temporary_folder.h"

namespace mlx_kd::archive {
namespace {

bool same_number(double a, double b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

void expect_same(const Brief& brief, const Record& record) {
  EXPECT_EQ(brief.step, record.step);
  EXPECT_EQ(brief.candidate_id, record.candidate_id);
  EXPECT_EQ(brief.variant, record.candidate.variant);
  EXPECT_EQ(brief.language, record.candidate.language);
  EXPECT_EQ(brief.knobs, record.candidate.knobs);
  EXPECT_EQ(brief.benchmarked, record.verdict.status == spec::Status::benchmarked);
  EXPECT_EQ(brief.incumbent, record.notes.value("incumbent", false));
  EXPECT_TRUE(same_number(brief.objective, record.verdict.objective));
  double seconds = 0;
  for (const auto& [stage, one] : record.verdict.seconds.items()) seconds += one.get<double>();
  EXPECT_EQ(brief.seconds, seconds);
  ASSERT_EQ(brief.log_ratios.size(), record.verdict.sizes.size());
  for (size_t s = 0; s < brief.log_ratios.size(); ++s)
    EXPECT_TRUE(same_number(brief.log_ratios[s], record.verdict.sizes[s].metrics.log_ratio));
}

TEST(Brief, SaysWhatTheRecordSays) {
  TemporaryFolder folder;
  RunData run = synthetic_run(3, 60);
  run.records[5].notes = {{"text", "a \\ and a \" and {[ in it"}, {"incumbent", true}};
  run.records[6].verdict.seconds = {{"compile", 0.25}, {"time", 1e-3}};
  write_run(folder / "a", run);
  std::istringstream log(text_of(folder / "a/run.ndjson"));
  Sources sources;
  size_t records = 0;
  for (std::string line; std::getline(log, line);) {
    Brief brief;
    if (!read_brief(line, brief)) continue;
    const auto value = base::Json::parse(line);
    expect_same(brief, record_from_json(value, run.meta.sizes, sources));
    EXPECT_EQ(brief.has_source, value.contains("source"));
    ++records;
  }
  EXPECT_EQ(records, 60u);
}

TEST(Brief, ReadsTheFirstVersionAndBlanks) {
  Brief brief;
  const std::string line =
      R"({"event" : "evaluation", "candidate_id":"a\u0062",  "status":"ok", "metal_source":"x", )"
      R"("template_params":{"TG":256,"eps":1e-06,"s":"1"}, "metrics":null, "notes":"" })";
  ASSERT_TRUE(read_brief(line, brief));
  EXPECT_EQ(brief.candidate_id, "ab");
  EXPECT_EQ(brief.language, "metal");
  EXPECT_EQ(brief.knobs, spec::Setting({{"TG", 256}}));
  EXPECT_TRUE(brief.benchmarked && brief.has_source && !brief.incumbent);
  EXPECT_FALSE(read_brief(R"({"event":"finish","winners":[]})", brief));
  EXPECT_FALSE(read_brief(R"({"event":""})", brief));
}

TEST(Brief, RefusesWhatIsNoRecord) {
  for (const char* line :
       {"", "7", "[1]", "{", "{}", R"({"event":"evaluation"})", R"({"event":7,"candidate_id":"a"})",
        R"({"event":"evaluation","candidate_id":"a")", R"({"event":"evaluation","candidate_id":"a)",
        R"({"event":"evaluation","candidate_id":"a","step":"b"})", R"({"event":"evaluation",7:8})",
        R"({"event":"evaluation","candidate_id":"a","metrics":{"per_shape":7}})"}) {
    Brief brief;
    EXPECT_ANY_THROW(read_brief(line, brief)) << line;
  }
}

TEST(OldRecords, AreHandedOverInStepsAndTheOthersKept) {
  TemporaryFolder folder;
  const RunData run = synthetic_run(1, 50);
  write_run(folder / "a", run);
  std::vector<std::string> ids;
  std::optional<Record> whole_one;
  const OldRecords old{10, 8, [&](const Brief& brief, const auto& whole) {
                         ids.push_back(brief.candidate_id);
                         if (brief.step == 20) whole_one = whole();
                       }};
  RunWriter writer = RunWriter::resume(folder / "a", run.meta, old);
  ASSERT_EQ(ids.size(), 40u);
  EXPECT_EQ(writer.so_far().older, 40u);
  ASSERT_EQ(writer.so_far().records.size(), 10u);
  for (size_t i = 0; i < 50; ++i)
    EXPECT_EQ(i < 40 ? ids[i] : writer.so_far().records[i - 40].candidate_id,
              run.records[i].candidate_id);
  ASSERT_TRUE(whole_one);
  EXPECT_EQ(whole_one->candidate.source, run.records[20].candidate.source);
  EXPECT_EQ(writer.so_far().records[0].candidate.source, run.records[40].candidate.source);
  EXPECT_TRUE(writer.so_far().finish);
  // The sources are known: none is written again.
  const size_t before = text_of(folder / "a/run.ndjson").size();
  writer.append(run.records[3]);
  EXPECT_EQ(text_of(folder / "a/run.ndjson").substr(before).find("\"source\":"), std::string::npos);
}

TEST(OldRecords, OfAShortLogAreNone) {
  TemporaryFolder folder;
  const RunData run = synthetic_run(1, 9);
  write_run(folder / "a", run);
  const OldRecords old{10, 8, [](const Brief&, const auto&) { FAIL(); }};
  EXPECT_EQ(RunWriter::resume(folder / "a", run.meta, old).so_far().records.size(), 9u);
}

TEST(OldRecords, ThatAreDamagedAreNamed) {
  TemporaryFolder folder;
  const RunData run = synthetic_run(1, 50);
  write_run(folder / "a", run);
  std::string text = text_of(folder / "a/run.ndjson");
  const size_t second = text.find('\n') + 1;
  put(folder / "a/run.ndjson",
      text.replace(second, text.find('\n', second) - second, "{\"event\":"));
  const OldRecords old{10, 8, [](const Brief&, const auto&) {}};
  try {
    RunWriter::resume(folder / "a", run.meta, old);
    FAIL() << "not refused";
  } catch (const base::Error& error) {
    EXPECT_NE(std::string(error.what()).find("run.ndjson line 2 is not a record"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace mlx_kd::archive
