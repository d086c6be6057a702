#include "mlx_kd/archive/run/run_writer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>

#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/error.h"
#include "tests/archive/synthetic_run.h"
#include "tests/archive/temporary_folder.h"

namespace mlx_kd::archive {
namespace {

int exit_code_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const base::Error& error) {
    return error.exit_code();
  }
  return 0;
}

bool same_bits(double a, double b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

void expect_same(const Record& a, const Record& b) {
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.candidate_id, b.candidate_id);
  EXPECT_EQ(a.candidate.id(), b.candidate.id());
  EXPECT_EQ(a.candidate.variant, b.candidate.variant);
  EXPECT_EQ(a.candidate.knobs, b.candidate.knobs);
  EXPECT_EQ(a.parent_id, b.parent_id);
  EXPECT_EQ(a.features, b.features);
  EXPECT_EQ(a.verdict.status, b.verdict.status);
  EXPECT_EQ(a.verdict.reason, b.verdict.reason);
  EXPECT_EQ(a.verdict.seconds, b.verdict.seconds);
  EXPECT_EQ(std::isnan(a.verdict.objective), std::isnan(b.verdict.objective));
  if (!std::isnan(a.verdict.objective)) {
    EXPECT_TRUE(same_bits(a.verdict.objective, b.verdict.objective));
  }
  ASSERT_EQ(a.verdict.sizes.size(), b.verdict.sizes.size());
  for (size_t i = 0; i < a.verdict.sizes.size(); ++i) {
    EXPECT_EQ(a.verdict.sizes[i].dims.text(), b.verdict.sizes[i].dims.text());
    EXPECT_EQ(to_json(a.verdict.sizes[i].metrics), to_json(b.verdict.sizes[i].metrics));
  }
}

TEST(RunWriter, ReadsBackWhatItWrote) {
  TemporaryFolder folder;
  const RunData run = synthetic_run();
  write_run(folder / "runs/a", run);
  const RunData back = read_run(folder / "runs/a");
  ASSERT_EQ(back.records.size(), run.records.size());
  for (size_t i = 0; i < run.records.size(); ++i) expect_same(run.records[i], back.records[i]);
  EXPECT_EQ(back.meta.sizes, run.meta.sizes);
  EXPECT_EQ(back.meta.sizes[0].text(), "rows=128,D=2048") << "the order of names is kept";
  EXPECT_EQ(back.meta.options, run.meta.options);
  ASSERT_TRUE(back.finish);
  EXPECT_EQ(back.finish->tours, run.finish->tours);
  EXPECT_EQ(back.finish->claims.size(), 12u);
  EXPECT_EQ(back.finish->claims[0].metrics.speedup_lo, run.finish->claims[0].metrics.speedup_lo);
  EXPECT_EQ(back.finish->aa[3].spread, 1.04);
  EXPECT_FALSE(back.cut);
}

TEST(RunWriter, WritesASourceOnce) {
  TemporaryFolder folder;
  write_run(folder / "a", synthetic_run());
  const std::string text = text_of(folder / "a" / kLogFile);
  size_t sources = 0;
  for (size_t at = text.find("\"source\":"); at != std::string::npos;
       at = text.find("\"source\":", at + 1))
    ++sources;
  EXPECT_EQ(sources, 2u) << "one for each variant";
}

TEST(RunWriter, KeepsOddNumbersAndOddTexts) {
  TemporaryFolder folder;
  RunData run = synthetic_run(0, 1);
  Record& record = run.records[0];
  record.verdict.status = spec::Status::benchmarked;
  record.verdict.sizes = {{run.meta.sizes[0], {}}};
  record.verdict.sizes[0].metrics.log_ratio = -0.1 + 1e-17 / 3;
  record.verdict.sizes[0].metrics.kernel_us = 5e-324;
  record.verdict.objective = std::nextafter(0.1, 1);
  record.verdict.reason = "caf\xe9 \"quoted\"\n</script>";  // not UTF-8
  run.finish.reset();
  write_run(folder / "a", run);
  const Record back = read_run(folder / "a").records.at(0);
  EXPECT_TRUE(same_bits(back.verdict.objective, record.verdict.objective));
  EXPECT_TRUE(same_bits(back.verdict.sizes[0].metrics.log_ratio,
                        record.verdict.sizes[0].metrics.log_ratio));
  EXPECT_EQ(back.verdict.sizes[0].metrics.kernel_us, 5e-324);
  EXPECT_TRUE(std::isnan(back.verdict.sizes[0].metrics.latency_us));
}

TEST(RunWriter, RefusesAFolderThatIsNotItsOwnAndWritesNothing) {
  TemporaryFolder folder;
  put(folder / "file", "text");
  std::filesystem::create_directory(folder / "full");
  put(folder / "full/notes.txt", "mine");
  for (const char* name : {"file", "full", "file/below"}) {
    EXPECT_EQ(exit_code_of([&] { RunWriter::create(folder / name, synthetic_meta()); }), 2) << name;
    EXPECT_EQ(exit_code_of([&] { RunWriter::resume(folder / name, synthetic_meta()); }), 2) << name;
  }
  EXPECT_EQ(text_of(folder / "file"), "text");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder / "full"), {}), 1);
  EXPECT_EQ(exit_code_of([] { RunWriter::create("/proc/mlx_kd/run", synthetic_meta()); }), 2);
}

TEST(RunWriter, RefusesAUsedFolderUnlessResumed) {
  TemporaryFolder folder;
  write_run(folder / "a", synthetic_run(0, 3));
  const std::string before = text_of(folder / "a" / kLogFile);
  const auto message = message_of([&] { RunWriter::create(folder / "a", synthetic_meta()); });
  EXPECT_NE(message.find("add --resume"), std::string::npos) << message;
  EXPECT_EQ(text_of(folder / "a" / kLogFile), before);
}

TEST(RunWriter, LocksTheFolderWhileItLives) {
  TemporaryFolder folder;
  {
    const RunWriter writer = RunWriter::create(folder / "a", synthetic_meta());
    for (const bool resumes : {false, true}) {
      const auto message = message_of([&] {
        resumes ? RunWriter::resume(folder / "a", synthetic_meta())
                : RunWriter::create(folder / "a", synthetic_meta());
      });
      EXPECT_NE(message.find("run in progress"), std::string::npos) << message;
    }
  }
  EXPECT_NO_THROW(RunWriter::resume(folder / "a", synthetic_meta()));
}

TEST(RunWriter, StartsAnewWhereNothingBegan) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "empty");
  EXPECT_TRUE(RunWriter::resume(folder / "empty", synthetic_meta()).so_far().records.empty());
  EXPECT_TRUE(RunWriter::resume(folder / "missing", synthetic_meta()).so_far().records.empty());
  std::filesystem::create_directory(folder / "killed_early");
  put(folder / "killed_early/run.lock", "");
  put(folder / "killed_early/run_meta.json.a1B2c3", "{\"cre");
  EXPECT_NO_THROW(RunWriter::create(folder / "killed_early", synthetic_meta()));
  EXPECT_FALSE(std::filesystem::exists(folder / "killed_early/run_meta.json.a1B2c3"));
}

TEST(RunWriter, SaysInWhatAnotherRunDiffers) {
  TemporaryFolder folder;
  write_run(folder / "a", synthetic_run(0, 3));
  const auto refusal = [&](const std::function<void(RunMeta&)>& change) {
    RunMeta meta = synthetic_meta(0, 3);
    change(meta);
    return message_of([&] { RunWriter::resume(folder / "a", meta); });
  };
  EXPECT_NE(refusal([](RunMeta& m) {
              m.op_name = "rope";
            }).find("op (there 'rmsnorm_residual', asked 'rope')"),
            std::string::npos);
  EXPECT_NE(refusal([](RunMeta& m) { m.seed = 7; }).find("seed (there '0', asked '7')"),
            std::string::npos);
  EXPECT_NE(refusal([](RunMeta& m) {
              m.runtime["mlx_version"] = "0.33.0";
            }).find("MLX version (there '0.32.4', asked '0.33.0')"),
            std::string::npos);
  for (const auto& change : std::vector<std::function<void(RunMeta&)>>{
           [](RunMeta& m) { m.dtype = "float16"; }, [](RunMeta& m) { m.shape_suite = "x"; },
           [](RunMeta& m) { m.sizes.pop_back(); }, [](RunMeta& m) { m.device = "null"; },
           [](RunMeta& m) { m.protocol = "null"; }, [](RunMeta& m) { m.mlx_kd_version = "9"; },
           [](RunMeta& m) { m.options["batch"] = 4; }, [](RunMeta& m) { m.target["cores"] = 4; }})
    EXPECT_NE(refusal(change).find("another run"), std::string::npos);
  EXPECT_EQ(refusal([](RunMeta& m) { m.budget = 9; }), "") << "a budget may be raised";
  EXPECT_EQ(read_run(folder / "a").meta.budget, 9u);
}

// Begun when protocols were stated as hashes of their settings.
TEST(RunWriter, GoesOnWithARunThatStatesItsProtocolAsAHash) {
  TemporaryFolder folder;
  RunData old = synthetic_run(0, 3);
  old.meta.protocol = "28850ad635fe7233";
  write_run(folder / "a", old);
  RunMeta meta = synthetic_meta(0, 3);
  meta.protocol = "2+9f31c2aa";
  EXPECT_NE(message_of([&] { RunWriter::resume(folder / "a", meta); })
                .find("protocol (there '2', asked '2+9f31c2aa'): ask for the same, or choose "
                      "another folder"),
            std::string::npos);
  meta.protocol = "2";
  EXPECT_EQ(message_of([&] { RunWriter::resume(folder / "a", meta); }), "");
  EXPECT_EQ(read_run(folder / "a").meta.protocol, "2");
}

// What passed other rules is not among the entries that this program says it proved by its own.
TEST(RunWriter, RefusesToGoOnWithARunOfAnotherProof) {
  TemporaryFolder folder;
  RunData old = synthetic_run(0, 3);
  old.meta.protocol_settings = {{"proof", {{"cases", "all at the smallest size"}}}};  // version 1
  write_run(folder / "a", old);
  RunMeta meta = synthetic_meta(0, 3);
  meta.protocol_settings = {{"proof", {{"version", 2}}}};
  EXPECT_NE(message_of([&] {
              RunWriter::resume(folder / "a", meta);
            }).find("proof version (there '1', asked '2')"),
            std::string::npos);
  meta.protocol_settings = {{"proof", {{"version", 1}}}};
  EXPECT_EQ(message_of([&] { RunWriter::resume(folder / "a", meta); }), "");
}

// Killed after any byte of the log: what is whole is kept, and the run goes on to the same end.
TEST(RunWriter, GoesOnAfterACutAtAnyByte) {
  TemporaryFolder folder;
  RunData run = synthetic_run(0, 4);
  run.finish.reset();
  for (Record& record : run.records) record.ts = "2026-11-22T10:04:05+01:00";
  write_run(folder / "whole", run);
  const std::string whole = text_of(folder / "whole" / kLogFile);
  const size_t last_line = whole.rfind('\n', whole.size() - 2);
  for (size_t bytes : {size_t(0), size_t(1), whole.find('\n'), whole.find('\n') + 1, last_line,
                       last_line + 1, last_line + 300, whole.size() - 1, whole.size()}) {
    const auto dir = folder / std::to_string(bytes);
    std::filesystem::copy(folder / "whole", dir);
    put(dir / kLogFile, whole.substr(0, bytes));
    RunWriter writer = RunWriter::resume(dir, run.meta);
    const size_t kept = writer.so_far().records.size();
    for (size_t i = kept; i < run.records.size(); ++i) writer.append(run.records[i]);
    ASSERT_EQ(text_of(dir / kLogFile), whole) << bytes;
  }
}

TEST(RunWriter, TakesBackTheFinishWhenTheRunGoesOn) {
  TemporaryFolder folder;
  const RunData run = synthetic_run(0, 4);
  write_run(folder / "a", run);
  RunWriter writer = RunWriter::resume(folder / "a", synthetic_meta(0, 5));
  EXPECT_TRUE(writer.so_far().finish);
  writer.append(run.records[0]);
  EXPECT_FALSE(read_run(folder / "a").finish);
}

// A child process may write 20 KB to a file and no more, which is what a full disk looks like.
TEST(RunWriter, LeavesAValidFolderOnAFullDisk) {
  TemporaryFolder folder;
  const RunData run = synthetic_run();
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {20000, 20000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::_exit(exit_code_of([&] { write_run(folder / "a", run); }));
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 1);
  const RunData back = read_run(folder / "a");
  EXPECT_FALSE(back.cut) << "the cut record was taken back";
  ASSERT_GE(back.records.size(), 2u);
  RunWriter writer = RunWriter::resume(folder / "a", run.meta);
  for (size_t i = back.records.size(); i < run.records.size(); ++i) writer.append(run.records[i]);
  EXPECT_EQ(read_run(folder / "a").records.size(), run.records.size());
}

}  // namespace
}  // namespace mlx_kd::archive
