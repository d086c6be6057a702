// Kernels that lie, harm and hang: each costs itself and nothing else.
#include <gtest/gtest.h>

#include "tests/evaluate/candidates.h"

namespace mlx_kd::evaluate {
namespace {

using spec::Status;

struct Hostile {
  const char* name;
  std::string source;
  Status status;
  const char* reason;  // part of it
};

void PrintTo(const Hostile& hostile, std::ostream* out) {
  *out << hostile.name;
}

const std::vector<Hostile>& hostiles() {
  static const std::vector<Hostile> all = {
      {"WrongInOneElement", rmsnorm_source("", "y[last] += 1;"), Status::wrong, "float64 says"},
      {"WritesNothing", rmsnorm_source("return;"), Status::wrong, "element 0 of output 'out' was"},
      {"LeavesOneElementOut", rmsnorm_source("const float kept = y[last];", "y[last] = kept;"),
       Status::wrong, "was not written"},
      {"WritesPastTheEnd", rmsnorm_source("", "y[last + 1] = 1;"), Status::wrong,
       "outside the bounds of output 'out'"},
      {"WritesBeforeTheStart", rmsnorm_source("", "y[-1] = 1;"), Status::wrong,
       "outside the bounds of output 'out'"},
      {"WritesToAnInput", rmsnorm_source("((float*)x)[0] = 2;"), Status::wrong,
       "wrote to an input"},
      {"ReadsPastAnInput", rmsnorm_source("volatile float far = w[d]; (void)far;"), Status::wrong,
       "read past the end"},
      {"ChangesItsBits",
       rmsnorm_source("", "y[0] = __builtin_nextafterf(y[0], ++calls % 2 ? 9 : -9);",
                      "static int calls = 0;"),
       Status::unstable, "differs between two runs"},
      {"FollowsNoPointer", rmsnorm_source("*(volatile int*)8 = 1;"), Status::crashed, "signal 11"},
      {"Aborts", rmsnorm_source("abort();", "", "extern \"C\" void abort();"), Status::crashed,
       "signal 6"},
      {"Exits", rmsnorm_source("_exit(0);", "", "extern \"C\" void _exit(int);"), Status::crashed,
       "exit status 0"},
      {"Hangs", rmsnorm_source("for (;;) __asm__ volatile(\"\");"), Status::timeout,
       "longer than 1.0 s"},
      {"RemembersWhereItWrote",
       rmsnorm_source("if (++calls > 200) { for (auto p : seen) if (p == y) return; "
                      "seen[calls % 512] = y; }",
                      "", "static int calls = 0; static void* seen[512];"),
       Status::wrong, "float64 says"},
      {"DoesNotCompile", "this is no C++", Status::compile_error, "error"},
      {"ExportsNothing", "int nothing;", Status::launch_error, "mlx_kd_rmsnorm"},
  };
  return all;
}

class HostileKernel : public testing::TestWithParam<Hostile> {};
INSTANTIATE_TEST_SUITE_P(Each, HostileKernel, testing::ValuesIn(hostiles()),
                         [](const auto& each) { return each.param.name; });

TEST_P(HostileKernel, IsFoundOutAndCostsOnlyItself) {
  EvaluateOptions options;
  options.prove_limit_s = GetParam().status == Status::timeout ? 1 : 30;
  const auto evaluator = rmsnorm_evaluator(options);
  const auto honest = rmsnorm_candidate(rmsnorm_source(""));
  const auto found = verdicts(*evaluator, {honest, rmsnorm_candidate(GetParam().source), honest});
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(name_of(found[0].status), "benchmarked") << found[0].reason;
  EXPECT_EQ(name_of(found[1].status), name_of(GetParam().status)) << found[1].reason;
  EXPECT_NE(found[1].reason.find(GetParam().reason), std::string::npos) << found[1].reason;
  EXPECT_TRUE(found[1].sizes.empty());
  EXPECT_EQ(name_of(found[2].status), "benchmarked") << found[2].reason;
}

TEST(SuspiciousKernel, IsTheOneThatIsFasterThanACopyOfItsBytes) {
  // Right always, but it skips what its output holds already.
  const std::string skips = rmsnorm_source(
      "float* const memo = memos + 4 * (((unsigned long)y >> 8) % 4096);"
      "if (memo[0] == x[first] && memo[1] == x[last] && memo[2] == y[first] && memo[3] == y[last] "
      "&& first < last) return;",
      "memo[0] = x[first]; memo[1] = x[last]; memo[2] = y[first]; memo[3] = y[last];",
      "static float memos[4 * 4096];");
  std::vector<spec::Verdict> found;
  for (int attempt = 0; attempt < 5; ++attempt) {  // a busy machine may disturb all samples of one
    const auto evaluator = rmsnorm_evaluator({}, {{{"rows", 16}, {"D", 4096}}});
    found = verdicts(*evaluator, {rmsnorm_candidate(skips)});
    ASSERT_EQ(found.size(), 1u);
    if (found[0].status == spec::Status::suspicious) break;
  }
  EXPECT_EQ(name_of(found[0].status), "suspicious") << found[0].reason;
  EXPECT_EQ(found[0].sizes.size(), 1u);
}

}  // namespace
}  // namespace mlx_kd::evaluate
