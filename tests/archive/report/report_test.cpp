#include "mlx_kd/archive/report/report.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <regex>

#include "mlx_kd/base/error.h"
#include "tests/archive/synthetic_run.h"
#include "tests/archive/temporary_folder.h"

namespace mlx_kd::archive {
namespace {

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// Every tag that is opened is closed in order: a page that a browser need not repair.
std::string first_unbalanced_tag(const std::string& html) {
  static const std::regex tag("<(/?)([a-z0-9]+)([^>]*)>");
  std::vector<std::string> open;
  for (std::sregex_iterator it(html.begin(), html.end(), tag), end; it != end; ++it) {
    const std::string name = (*it)[2], rest = (*it)[3];
    if (name == "meta" || (!rest.empty() && rest.back() == '/')) continue;
    if ((*it)[1].length() == 0) {
      open.push_back(name);
    } else if (open.empty() || open.back() != name) {
      return name;
    } else {
      open.pop_back();
    }
  }
  return open.empty() ? "" : open.back();
}

TEST(ReportMarkdown, HasItsSectionsAndNumbers) {
  const RunData run = synthetic_run();
  const std::string text = report_markdown(run);
  for (const char* part :
       {"# `rmsnorm_residual`", "- seed: 0", "- budget: 60", "- dtype: `float32`",
        "- suite: `glm_flash_small`", "60 evaluated", "`AMD EPYC 9R14`", "## Top 10 by Latency",
        "## Pareto Frontier (Latency vs Error)", "## Knob Notes", "## Failures",
        "unknown type name", "## A/A", "1.04x", "## Where the time went", "`claims` | 7.90",
        "no pin: `the interval [0.979, 1.071] holds 1`", "3.40x | [3.26, 3.57] | - | pinned"})
    EXPECT_NE(text.find(part), std::string::npos) << part;
  EXPECT_EQ(count_of(text, "\n| 10 |"), 4u) << "ten rows per size";
  EXPECT_EQ(count_of(text, "\n| 11 |"), 0u);
}

TEST(ReportHtml, IsOneFileThatLoadsNothing) {
  const std::string html = report_html(synthetic_run());
  EXPECT_EQ(first_unbalanced_tag(html), "");
  for (const char* part : {"<script", "<link", "<img", "src=", "href=", "url(", "@import", "http:"})
    EXPECT_EQ(count_of(html, part), 0u) << part;
  EXPECT_NE(html.find("prefers-color-scheme: dark"), std::string::npos);
  EXPECT_NE(html.find("name=\"viewport\""), std::string::npos);
  EXPECT_EQ(count_of(html, "<svg"), 6u) << "speed-up, convergence, error, tours, knobs, time";
  EXPECT_EQ(count_of(html, "class=\"tour t"), 2u);
  EXPECT_NE(html.find("#ifndef VEC"), std::string::npos) << "the winner's source";
  EXPECT_LT(html.size(), 200000u);
}

TEST(Report, TellsTheTargetOnceAndInParts) {
  RunData run = synthetic_run();
  run.meta.runtime["target"] = run.meta.target;
  for (const std::string& text : {report_markdown(run), report_html(run)}) {
    EXPECT_EQ(count_of(text, "avx512f"), 1u);
    EXPECT_EQ(text.find("{\"cores\""), std::string::npos);
    EXPECT_EQ(text.find("{&quot;cores"), std::string::npos);
  }
}

// What a hostile candidate may write, and nothing of it may become markup.
TEST(Report, EscapesWhatARunSays) {
  RunData run = synthetic_run();
  const std::string evil = "\"'><script>alert(1)</script>`|\n# <img src=x onerror=y>\x1b[31m";
  for (Record& record : run.records) {
    record.candidate_id = evil;
    record.verdict.reason = evil;
    record.candidate.source = evil;
    record.candidate.variant = evil + std::to_string(record.step % 2);
    record.candidate.template_params[evil] = evil;
  }
  for (Claim& claim : run.finish->claims) claim.candidate_id = claim.reason = evil;
  run.finish->winners[0].candidate_id = evil;
  run.meta.op_name = run.meta.dtype = run.meta.protocol = evil;
  run.meta.runtime[evil] = evil;
  run.meta.target[evil] = evil;
  run.meta.sizes[0].set(evil, 1);
  const std::string html = report_html(run), markdown = report_markdown(run);
  EXPECT_EQ(first_unbalanced_tag(html), "");
  for (const char* part : {"<script", "<img", "\x1b"}) EXPECT_EQ(count_of(html, part), 0u) << part;
  for (const std::string& text : {markdown, report_table(run)}) {
    EXPECT_EQ(count_of(text, "\x1b"), 0u);
    EXPECT_EQ(count_of(text, "\n# <img"), 0u);
  }
  // In Markdown a text of the run stands in a code span or is left out.
  const std::regex code("`[^`\n]*`");
  EXPECT_EQ(count_of(std::regex_replace(markdown, code, ""), "<"), 0u);
}

TEST(Report, SaysWhatAnUnfinishedOrEmptyRunLacks) {
  RunData run = synthetic_run();
  run.finish.reset();
  EXPECT_NE(report_html(run).find("The run is not finished"), std::string::npos);
  EXPECT_NE(report_table(run).find("no pin: the run is not finished"), std::string::npos);
  run.records.clear();
  EXPECT_EQ(first_unbalanced_tag(report_html(run)), "");
  EXPECT_NE(report_table(run).find("no candidate was measured"), std::string::npos);
  EXPECT_NE(report_markdown(run).find("0 evaluated"), std::string::npos);
  for (const char* bad : {"nan", "inf"}) EXPECT_EQ(count_of(report_markdown(run), bad), 0u) << bad;
}

TEST(Report, SaysWhereNothingWasTimed) {
  RunData run = synthetic_run();
  for (const std::string& text : {report_markdown(run), report_html(run)})
    EXPECT_EQ(text.find("Nothing was timed"), std::string::npos);
  run.meta.protocol = "null";
  for (const std::string& text : {report_markdown(run), report_html(run)}) {
    EXPECT_NE(text.find("Nothing was timed"), std::string::npos);
    EXPECT_EQ(text.find("Speed-ups are over MLX"), std::string::npos);
  }
}

TEST(Report, DrawsARunInWhichAllFailedOrAllAreTheSame) {
  RunData failed = synthetic_run(), same = synthetic_run();
  for (Record& record : failed.records) record.verdict = {};
  failed.finish.reset();
  for (Record& record : same.records) record = same.records[0];
  for (const RunData* run : {&failed, &same}) {
    const std::string html = report_html(*run);
    EXPECT_EQ(first_unbalanced_tag(html), "");
    for (const char* bad : {"\"nan", "\"inf", "\"-nan", "-inf"}) EXPECT_EQ(count_of(html, bad), 0u);
  }
}

TEST(Report, SaysWhereErrorsTellNothingApart) {
  RunData same = synthetic_run();
  for (Record& record : same.records) record.verdict.metrics.error_bound_used = 0.999;
  const std::string remark = "All err alike here";
  for (const std::string& text : {report_html(same), report_markdown(same)})
    EXPECT_EQ(count_of(text, remark), 1u);
  for (const std::string& text : {report_html(synthetic_run()), report_markdown(synthetic_run())})
    EXPECT_EQ(count_of(text, remark), 0u);
}

TEST(ReportJson, NamesTheWinnersAndWhyThereIsNone) {
  const base::Json json = report_json(synthetic_run());
  ASSERT_EQ(json["sizes"].size(), 4u);
  EXPECT_EQ(json["sizes"][0]["pinned"], true);
  EXPECT_EQ(json["sizes"][0]["shape"]["rows"], 128);
  EXPECT_NEAR(json["sizes"][0]["metrics"]["speedup_vs_ref"].get<double>(), 3.4, 1e-12);
  EXPECT_EQ(json["sizes"][3]["pinned"], false);
  EXPECT_EQ(json["sizes"][3]["reason"], "the interval [0.979, 1.071] holds 1");
  EXPECT_EQ(json["finished"], true);
}

TEST(Report, KeepsTheOldFilesOnAFullDisk) {
  TemporaryFolder folder;
  const RunData run = synthetic_run();
  std::filesystem::create_directory(folder / "a");
  put(folder / "a/report.html", "old");
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {20000, 20000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_report(folder / "a", run);
    } catch (const base::Error& error) {
      ::_exit(error.exit_code());
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_EQ(text_of(folder / "a/report.html"), "old");
  for (const auto& entry : std::filesystem::directory_iterator(folder / "a"))
    EXPECT_EQ(entry.path().filename().string().rfind("report.", 0), 0u);
}

}  // namespace
}  // namespace mlx_kd::archive
