#include "mlx_kd/evaluate/evaluator.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "candidates.h"
#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/evaluators/verify_candidates.h"
#include "mlx_kd/kernels/op_table.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::evaluate {
namespace {

using spec::Status;

TEST(Evaluator, TheFirstCandidateIsWhereLogRatiosStart) {
  const auto evaluator = rmsnorm_evaluator();
  const auto found = verdicts(*evaluator, {rmsnorm_candidate(rmsnorm_source(""))});
  ASSERT_EQ(found.size(), 1u);
  ASSERT_EQ(found[0].status, Status::benchmarked) << found[0].reason;
  EXPECT_EQ(found[0].objective, 0);
  ASSERT_EQ(found[0].sizes.size(), 2u);
  for (const auto& size : found[0].sizes) {
    EXPECT_EQ(size.metrics.log_ratio, 0);
    EXPECT_GT(size.metrics.kernel_us, 0);
    EXPECT_GT(size.metrics.gbps_est, 0);
    EXPECT_LE(size.metrics.error_bound_used, 1);
    EXPECT_FALSE(size.metrics.cold);
  }
  for (const char* part : {"compile", "prove", "time"})
    EXPECT_TRUE(found[0].seconds.contains(part)) << part;
}

TEST(Evaluator, ASleepingKernelIsSlowAndNotWrong) {
  const std::string sleeps =
      rmsnorm_source("usleep(2000);", "", "extern \"C\" int usleep(unsigned);");
  const auto evaluator = rmsnorm_evaluator();
  const auto found =
      verdicts(*evaluator, {rmsnorm_candidate(rmsnorm_source("")), rmsnorm_candidate(sleeps)});
  ASSERT_EQ(found.size(), 2u);
  ASSERT_EQ(found[1].status, Status::benchmarked) << found[1].reason;
  EXPECT_GE(found[1].metrics.kernel_us, 2000);
  EXPECT_GT(found[1].objective, 0);
}

spec::Candidate sleeper(int us) {
  return rmsnorm_candidate(rmsnorm_source("usleep(" + std::to_string(us) + ");", "",
                                          "extern \"C\" int usleep(unsigned);"));
}

// The third is slower than the second by more than a busy machine can hide.
TEST(Evaluator, AFasterCandidateIsWhatLaterOnesAreTimedAgainst) {
  const auto slow = sleeper(4000);
  const auto fast = rmsnorm_candidate(rmsnorm_source(""));
  const auto between = sleeper(500);
  const auto evaluator = rmsnorm_evaluator();
  const auto found = verdicts(*evaluator, {slow, fast, between});
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].timed_against, "");
  EXPECT_EQ(found[1].timed_against, slow.id());
  EXPECT_EQ(found[2].timed_against, fast.id());
  EXPECT_LT(found[2].objective, -0.3);  // over the first
  EXPECT_TRUE(found[0].is_incumbent);
  EXPECT_TRUE(found[1].is_incumbent);
  EXPECT_FALSE(found[2].is_incumbent);
}

// So that what incumbents owe to the state of the machine does not add up.
TEST(Evaluator, TheLogRatioOfANewIncumbentIsOverTheFirstCandidate) {
  const auto first = sleeper(4000);
  const auto evaluator = rmsnorm_evaluator();
  const auto found = verdicts(*evaluator, {first, sleeper(2000), sleeper(500), sleeper(3000)});
  ASSERT_EQ(found.size(), 4u);
  EXPECT_EQ(found[1].timed_against, first.id());
  EXPECT_EQ(found[2].timed_against, first.id());
  EXPECT_TRUE(found[2].is_incumbent);
  EXPECT_EQ(found[3].timed_against, sleeper(500).id());
  EXPECT_LT(found[2].objective, found[1].objective);
}

// A resumed run that takes up an incumbent of another state of the machine, in which the candidate
// would have seemed faster by far.
TEST(Evaluator, AWrongLogRatioOfAnIncumbentIsNotHandedOn) {
  const auto first = sleeper(2000);
  const auto evaluator = rmsnorm_evaluator();
  evaluator->adopt(first, sleeper(4000), {-9, -9});
  const auto found = verdicts(*evaluator, {sleeper(1000)});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].timed_against, first.id());
  EXPECT_LT(found[0].objective, -0.2);
  EXPECT_GT(found[0].objective, -3);
}

TEST(Evaluator, ManyEqualCandidatesDoNotMoveWhatIsTimedAgainst) {
  std::vector<spec::Candidate> equal;
  for (int i = 0; i < 12; ++i)
    equal.push_back(rmsnorm_candidate(rmsnorm_source("", "", "// " + std::to_string(i) + "\n")));
  const auto evaluator = rmsnorm_evaluator();
  const auto found = verdicts(*evaluator, equal);
  ASSERT_EQ(found.size(), 12u);
  std::set<std::string> timed_against;
  for (size_t i = 1; i < found.size(); ++i) timed_against.insert(found[i].timed_against);
  EXPECT_LE(timed_against.size(), 2u);  // a loaded machine may deceive the longer sample once
}

TEST(Evaluator, LargeSizesAreTimedCold) {
  const auto evaluator = rmsnorm_evaluator({}, {{{"rows", 512}, {"D", 4096}}});
  const auto found = verdicts(*evaluator, {rmsnorm_candidate(rmsnorm_source(""))});
  ASSERT_EQ(found.size(), 1u);
  ASSERT_EQ(found[0].status, Status::benchmarked) << found[0].reason;
  EXPECT_TRUE(found[0].metrics.cold);
}

TEST(Evaluator, ProofAloneCarriesNoTimes) {
  EvaluateOptions options;
  options.prove_only = true;
  const auto found = verdicts(*rmsnorm_evaluator(options), {rmsnorm_candidate(rmsnorm_source(""))});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].status, Status::benchmarked) << found[0].reason;
  EXPECT_TRUE(std::isnan(found[0].metrics.kernel_us));
  EXPECT_LE(found[0].metrics.error_bound_used, 1);
}

TEST(Evaluator, AnAdoptedIncumbentKeepsItsRecord) {
  const auto evaluator = rmsnorm_evaluator();
  const std::string sleeps =
      rmsnorm_source("usleep(3000);", "", "extern \"C\" int usleep(unsigned);");
  const auto honest = rmsnorm_candidate(rmsnorm_source(""));
  evaluator->adopt(honest, honest, {-0.5, -0.7});
  const auto found = verdicts(*evaluator, {rmsnorm_candidate(sleeps)});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_GT(found[0].objective, 0);
  EXPECT_THROW(evaluator->adopt(honest, honest, {0}), base::Error);
}

TEST(Evaluator, ClaimsCompareWithMlxAndSayWhyNot) {
  const auto evaluator = rmsnorm_evaluator();
  const std::string sleeps =
      rmsnorm_source("usleep(20);", "", "extern \"C\" int usleep(unsigned);");
  const auto slow = rmsnorm_candidate(sleeps);
  const auto honest = rmsnorm_candidate(rmsnorm_source(""));
  const auto claims = evaluator->claims({{honest, slow}, {}});
  ASSERT_EQ(claims.size(), 2u);
  for (const Claim& claim : claims) {
    EXPECT_EQ(claim.dims, small_sizes()[0]);
    EXPECT_TRUE(claim.baseline == "plain" || claim.baseline == "compiled");
    EXPECT_LE(claim.metrics.speedup_lo, claim.metrics.speedup_vs_ref);
    EXPECT_LE(claim.metrics.speedup_vs_ref, claim.metrics.speedup_hi);
    EXPECT_GT(claim.metrics.single_us, 0);
    EXPECT_GT(claim.metrics.baseline_us, 0);
    EXPECT_LE(claim.metrics.error_bound_used, 1);
  }
  const spec::Metrics& first = claims[0].metrics;
  if (claims[0].claimed) {
    EXPECT_LE(first.expect_lo, first.speedup_lo);
    EXPECT_GE(first.expect_hi, first.speedup_hi);
  }
  EXPECT_EQ(claims[1].candidate_id, slow.id());
  EXPECT_FALSE(claims[1].claimed);
  EXPECT_FALSE(std::isfinite(claims[1].metrics.expect_lo));  // it loses in one process
  EXPECT_NE(claims[1].reason.find("lies below 1"), std::string::npos) << claims[1].reason;
}

// MLX would take seconds for all rows of a quantised product.
TEST(Evaluator, ClaimsOfManyRowsTakeMlxsTimeFromFew) {
  const spec::Op& op = kernels::find_op("qgemm");
  const auto size = [](int64_t m) {
    return spec::Dims{{"M", m},        {"N", 256},      {"K", 1024},
                      {"bits", 4},     {"group", 64},   {"mode", 0},
                      {"has_norm", 0}, {"has_bias", 0}, {"has_residual", 0}};
  };
  EvaluateOptions options;
  options.worker_program = MLX_KD_PROGRAM;
  const auto evaluator = make_evaluator(
      {&op, "cpu", spec::Dtype::bfloat16, {size(17), size(520), size(1040)}}, options);
  const spec::DeviceTraits traits = devices::open_device("cpu")->id().traits;
  const auto kernel =
      sample_candidates(op, {"cpp"}, traits, spec::Dtype::bfloat16, size(17), 0, 0).front();
  const auto claims = evaluator->claims({{kernel}, {kernel}, {kernel}});
  ASSERT_EQ(claims.size(), 3u);
  EXPECT_EQ(claims[0].baseline.find("M="), std::string::npos) << claims[0].baseline;
  for (size_t i = 1; i < 3; ++i) {
    EXPECT_NE(claims[i].baseline.find(" with M=32, in proportion"), std::string::npos)
        << claims[i].baseline;
    EXPECT_TRUE(claims[i].claimed) << claims[i].reason;
    EXPECT_GT(claims[i].metrics.speedup_lo, 2);
  }
  EXPECT_NEAR(claims[2].metrics.baseline_us, 2 * claims[1].metrics.baseline_us,
              1e-6 * claims[2].metrics.baseline_us);
}

TEST(Evaluator, QuickClaimsAreOfOneProcess) {
  EvaluateOptions options;
  options.claim_processes = 1;
  const auto evaluator = rmsnorm_evaluator(options);
  const auto claims = evaluator->claims({{rmsnorm_candidate(rmsnorm_source(""))}, {}});
  ASSERT_EQ(claims.size(), 1u);
  EXPECT_FALSE(std::isfinite(claims[0].metrics.expect_lo));
  EXPECT_TRUE(std::isfinite(claims[0].metrics.speedup_lo));
}

// It is fast in the first process that claims it, and in no other.
TEST(Evaluator, AFinalistThatIsFastInOneProcessIsNoClaim) {
  const std::string marker = testing::TempDir() + "kd_claimed_" + std::to_string(::getpid());
  const std::string lies = rmsnorm_source(
      "if (slow < 0) slow = open(\"" + marker + "\", 0302, 0600) < 0; if (slow) usleep(400);", "",
      "extern \"C\" int open(const char*, int, ...); extern \"C\" int usleep(unsigned); "
      "static int slow = -1;");
  const auto evaluator = rmsnorm_evaluator();
  const auto claims = evaluator->claims({{rmsnorm_candidate(lies)}, {}});
  ASSERT_EQ(std::remove(marker.c_str()), 0) << "it did not run";
  ASSERT_EQ(claims.size(), 1u);
  EXPECT_FALSE(claims[0].claimed);
  EXPECT_LT(claims[0].metrics.speedup_lo, 1);
}

TEST(Evaluator, AWrongFinalistIsNoClaim) {
  const auto evaluator = rmsnorm_evaluator();
  const auto claims = evaluator->claims({{rmsnorm_candidate(rmsnorm_source("", "y[0] += 1;")),
                                          rmsnorm_candidate(rmsnorm_source(""))}});
  ASSERT_EQ(claims.size(), 2u);
  EXPECT_FALSE(claims[0].claimed);
  EXPECT_EQ(claims[0].reason.substr(0, 5), "wrong") << claims[0].reason;
  EXPECT_GT(claims[1].metrics.latency_us, 0);
}

TEST(Evaluator, AaPairsTimeTheIncumbentAgainstItself) {
  const auto evaluator = rmsnorm_evaluator();
  EXPECT_TRUE(evaluator->aa().empty());
  verdicts(*evaluator, {rmsnorm_candidate(rmsnorm_source(""))});
  const auto results = evaluator->aa();
  ASSERT_EQ(results.size(), 2u);
  for (const spec::AaPair& aa : results) {
    EXPECT_LE(aa.lo, aa.ratio);
    EXPECT_LE(aa.ratio, aa.hi);
    EXPECT_GE(aa.spread, 1);
  }
}

TEST(Evaluator, InterruptAbandonsTheEvaluationInFlight) {
  const auto evaluator = rmsnorm_evaluator();
  const auto hangs = rmsnorm_candidate(rmsnorm_source("for (;;) __asm__ volatile(\"\");"));
  std::thread other;
  int calls = 0;
  evaluator->evaluate({rmsnorm_candidate(rmsnorm_source("")), hangs, hangs},
                      [&](size_t, const spec::Verdict&) {
                        ++calls;
                        other = std::thread([&] {
                          std::this_thread::sleep_for(std::chrono::milliseconds(100));
                          evaluator->interrupt();
                        });
                      });
  other.join();
  EXPECT_EQ(calls, 1);
}

TEST(Evaluator, SecondsSayWhereTheTimeWent) {
  const auto evaluator = rmsnorm_evaluator();
  const int64_t start = base::steady_ns();
  verdicts(*evaluator,
           {rmsnorm_candidate(rmsnorm_source("// never cached: " + std::to_string(start)))});
  const double wall = base::seconds_since(start);
  double sum = 0;
  for (const auto& seconds : evaluator->seconds()) sum += seconds.get<double>();
  EXPECT_LE(sum, wall) << "what is done at once must count once";
  for (const char* part : {"prove", "time", "reference"})
    EXPECT_GT(evaluator->seconds().at(part).get<double>(), 0) << part;
  EXPECT_EQ(evaluator->seconds().at("claims"), 0.0);
}

// A program in the place of compute-sanitizer: it writes `log` and starts the worker.
EvaluateOptions under_sanitizer(const tests::TempDir& folder, const std::string& log) {
  const auto program = folder / "compute-sanitizer";
  std::ofstream(program) << "#!/bin/sh\n[ \"$1 $2 $3\" = '--tool memcheck --log-file' ] || exit 9\n"
                            "log=$4; shift 4\n\"$@\"\nprintf '"
                         << log << "' > \"$log\"\n";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  EvaluateOptions options;
  options.prove_only = true;
  options.sanitizer = program.string();
  return options;
}

TEST(Evaluator, FindingsOfTheSanitizerAreVerdicts) {
  const tests::TempDir folder;
  const auto candidate = rmsnorm_candidate(rmsnorm_source(""));
  const std::string begins = "========= COMPUTE-SANITIZER\\n";
  const std::string clean = begins + "========= ERROR SUMMARY: 0 errors\\n";
  const auto quiet = rmsnorm_evaluator(under_sanitizer(folder, clean));
  const auto proved = verdicts(*quiet, {candidate, candidate});
  ASSERT_EQ(proved.size(), 2u);
  for (const auto& verdict : proved) {
    EXPECT_EQ(verdict.status, Status::benchmarked) << verdict.reason;
    EXPECT_TRUE(verdict.seconds.contains("sanitize"));
  }
  const std::string found = begins +
                            "========= Invalid __global__ read of size 4 bytes\\n"
                            "=========     at mlx_kd_rmsnorm+0x40\\n"
                            "========= Invalid __global__ write of size 4 bytes\\n"
                            "========= ERROR SUMMARY: 2 errors\\n";
  const auto strict = rmsnorm_evaluator(under_sanitizer(folder, found));
  const auto refused = verdicts(*strict, {candidate});
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].status, Status::wrong);
  EXPECT_EQ(refused[0].reason,
            "compute-sanitizer: Invalid __global__ read of size 4 bytes (and 1 more)");
}

TEST(Evaluator, TheSanitizerIsForKernelsOnCudaAndMustBeThere) {
  const auto refusal_of = [](const std::string& device) -> std::string {
    try {
      return "found " + find_sanitizer(device);
    } catch (const base::Error& error) {
      EXPECT_EQ(error.exit_code(), 2);
      return error.what();
    }
  };
  EXPECT_NE(refusal_of("cpu").find("give --device cuda"), std::string::npos);
  setenv("MLX_KD_SANITIZER", "/nowhere/compute-sanitizer", 1);
  EXPECT_NE(refusal_of("cuda").find("'/nowhere/compute-sanitizer', which cannot be run"),
            std::string::npos);
  unsetenv("MLX_KD_SANITIZER");
}

TEST(Evaluator, RefusesWhatItCannotMean) {
  const spec::Op& op = kernels::find_op("rmsnorm");
  EXPECT_THROW(make_evaluator({&op, "cpu", spec::Dtype::float32, {}}, {}), base::Error);
  EXPECT_THROW(make_evaluator({&op, "abacus", spec::Dtype::float32, small_sizes()}, {}),
               base::Error);
  EvaluateOptions options;
  options.params = {1, 2, 3};
  EXPECT_THROW(make_evaluator({&op, "cpu", spec::Dtype::float32, small_sizes()}, options),
               base::Error);
}

TEST(Evaluator, AWorkerThatIsNoneIsAnErrorThatNamesIt) {
  EvaluateOptions options;
  options.worker_program = "/nowhere/kd";
  const auto evaluator = make_evaluator(
      {&kernels::find_op("rmsnorm"), "cpu", spec::Dtype::float32, small_sizes()}, options);
  try {
    verdicts(*evaluator, {rmsnorm_candidate(rmsnorm_source(""))});
    FAIL() << "no error";
  } catch (const base::Error& error) {
    EXPECT_NE(std::string(error.what()).find("/nowhere/kd"), std::string::npos) << error.what();
    EXPECT_EQ(error.exit_code(), 1);
  }
}

}  // namespace
}  // namespace mlx_kd::evaluate
