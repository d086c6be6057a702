#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "run_folder.h"

namespace mlx_kd::cli {
namespace {

TEST(KdReport, WritesBothReportsAndPrintsTheWinners) {
  RunFolder folder;
  folder.put_run("a run", "rmsnorm", 5);
  const Outcome outcome = kd("report --run '" + (folder / "a run") + "' 2>/dev/null");
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_NE(outcome.out.find("rows=4,D=64"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("2.00x  [1.90, 2.10]              -  pinned"), std::string::npos)
      << outcome.out;
  EXPECT_NE(folder.text("a run/report.md").find("## Top 10 by Latency"), std::string::npos);
  EXPECT_NE(folder.text("a run/report.html").find("</html>"), std::string::npos);
}

TEST(KdReport, PrintsJsonAloneOnStdout) {
  RunFolder folder;
  folder.put_run("a", "rmsnorm", 5);
  const Outcome outcome = kd("report --json --run '" + (folder / "a") + "' 2>/dev/null");
  const auto json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json["sizes"][0]["candidate_id"], "c5");
  EXPECT_EQ(json["sizes"][0]["pinned"], true);
}

TEST(KdReport, SaysThatACutLineIsLeftOut) {
  RunFolder folder;
  folder.put_run("a", "rmsnorm", 5);
  folder.put("a/run.ndjson", folder.text("a/run.ndjson") + "{\"event\":\"eval");
  const Outcome outcome = kd("report --run '" + (folder / "a") + "' 2>&1");
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_NE(outcome.out.find("last line of run.ndjson is cut"), std::string::npos) << outcome.out;
}

TEST(KdReport, RefusesWhatIsNoRunAndWritesNothing) {
  RunFolder folder;
  folder.put_run("broken", "rmsnorm", 5);
  folder.put("broken/run.ndjson", "garbage\n" + folder.text("broken/run.ndjson"));
  folder.put("other/notes.txt", "mine");
  for (const char* name : {"missing", "other", "broken", "other/notes.txt"}) {
    const Outcome outcome = kd("report --run '" + (folder / name) + "' 2>&1");
    EXPECT_EQ(outcome.exit_code, 2) << name;
    EXPECT_EQ(outcome.out.rfind("[archive] ", 0), 0u) << outcome.out;
    EXPECT_FALSE(std::filesystem::exists(folder / (std::string(name) + "/report.md")));
  }
  EXPECT_EQ(kd("report 2>/dev/null").exit_code, 2);
  EXPECT_EQ(kd("report --run x --bogus 2>/dev/null").exit_code, 2);
}

// The reader of the output is gone before the first byte: the files are whole all the same.
TEST(KdReport, LeavesWholeFilesWhenTheTerminalGoesAway) {
  RunFolder folder;
  folder.put_run("a", "rmsnorm", 5);
  kd("report --run '" + (folder / "a") + "' 2>&1 | true");
  kd("report --json --run '" + (folder / "a") + "' >/dev/full 2>/dev/null");
  EXPECT_NE(folder.text("a/report.html").find("</html>"), std::string::npos);
  for (const auto& entry : std::filesystem::directory_iterator(folder / "a"))
    EXPECT_EQ(entry.path().filename().string().find(".html."), std::string::npos);
}

}  // namespace
}  // namespace mlx_kd::cli
