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

// The kernels see no header: what they need of the C library is declared by hand.
constexpr const char* kLibrary = R"(
extern "C" {
long read(int, void*, unsigned long); long write(int, const void*, unsigned long);
int open(const char*, int, ...); int close(int); int dup2(int, int); int printf(const char*, ...);
int fork(); int setsid(); int pause(); int usleep(unsigned); unsigned sleep(unsigned);
void* malloc(unsigned long); void* memset(void*, int, unsigned long);
void* memcpy(void*, const void*, unsigned long); int memcmp(const void*, const void*, unsigned long);
void* memmem(const void*, unsigned long, const void*, unsigned long);
void* fopen(const char*, const char*); char* fgets(char*, int, void*); int fclose(void*);
int sscanf(const char*, const char*, ...); char* strstr(const char*, const char*);
int pthread_create(unsigned long*, const void*, void* (*)(void*), void*);
int pthread_detach(unsigned long); void (*signal(int, void (*)(int)))(int);
int mprotect(void*, unsigned long, int); int fesetround(int); void* dlsym(void*, const char*);
}
)";

std::string with_library(const std::string& before, const std::string& after = "",
                         const std::string& globals = "") {
  return rmsnorm_source(before, after, kLibrary + globals);
}

// Results that are wrong, in ways that a short look does not find.
std::vector<Hostile> liars() {
  return {
      {"IsWrongInOneElement", rmsnorm_source("", "y[last] += 1;"), Status::wrong, "float64 says"},
      {"WritesNothing", rmsnorm_source("return;"), Status::wrong, "element 0 of output 'out' was"},
      {"LeavesOneElementOut", rmsnorm_source("const float kept = y[last];", "y[last] = kept;"),
       Status::wrong, "was not written"},
      {"RepeatsThePreviousResult",
       with_library("",
                    "static float made[4096]; static bool have; float now[4096]; "
                    "const unsigned long n = 4 * (last + 1 - first); if (n <= sizeof now) { "
                    "memcpy(now, y + first, n); if (have) memcpy(y + first, made, n); "
                    "memcpy(made, now, n); have = true; }"),
       Status::unstable, "differs between two runs"},
      {"IsRightForOneSizeOnly", rmsnorm_source("", "if (d != 320) y[last] = 0;"), Status::wrong,
       "float64 says"},
      {"IsRightForOneSeedOnly",
       rmsnorm_source("if (!seen) seen = x;", "if (x != seen) y[last] = 0;",
                      "static const float* seen;"),
       Status::wrong, "float64 says"},
      {"IsRightForSmallNumbersOnly",
       rmsnorm_source("", "for (long i = first; i <= last; ++i) if (x[i] > 100) y[i] = 0;"),
       Status::wrong, "float64 says"},
      {"IsWrongFromTheTenthCallOn",
       rmsnorm_source("", "if (++calls > 9) y[last] += 1;", "static int calls;"), Status::unstable,
       "differs between two runs"},
      {"IsWrongOnceItIsTimed",
       rmsnorm_source("if (++calls > 100) return;", "", "static int calls;"), Status::wrong, ""},
      {"RemembersWhereItWrote",
       rmsnorm_source("if (++calls > 200) { for (auto p : seen) if (p == y) return; "
                      "seen[calls % 512] = y; }",
                      "", "static int calls = 0; static void* seen[512];"),
       Status::wrong, "float64 says"},
      {"SwallowsNaN",
       rmsnorm_source("", "for (long i = first; i <= last; ++i) if (y[i] != y[i]) y[i] = 0;"),
       Status::wrong, ""},
      {"ComputesInBfloat16",
       rmsnorm_source("",
                      "for (long i = first; i <= last; ++i) { unsigned bits; "
                      "__builtin_memcpy(&bits, y + i, 4); bits &= 0xffff0000u; "
                      "__builtin_memcpy(y + i, &bits, 4); }"),
       Status::wrong, "float64 says"},
      {"ReadsItsOutputBeforeItWrites",
       rmsnorm_source("const float was = y[last];", "y[last] += was - was;"), Status::unstable, ""},
      {"ChangesItsBits",
       rmsnorm_source("", "y[0] = __builtin_nextafterf(y[0], ++calls % 2 ? 9 : -9);",
                      "static int calls = 0;"),
       Status::unstable, "differs between two runs"},
      {"CopiesTheReference", with_library(R"(
  float right[4]; double sum = 0;
  for (long j = 0; j < d; ++j) sum += double(x[first + j]) * x[first + j];
  for (int j = 0; j < 4; ++j)
    right[j] = w[j] * (x[first + j] * float(1 / __builtin_sqrt(sum / d + params[0])));
  void* maps = fopen("/proc/self/maps", "r");
  char line[512];
  while (fgets(line, sizeof line, maps)) {
    unsigned long from, to; char r;
    if (!strstr(line, "memfd:") || sscanf(line, "%lx-%lx %c", &from, &to, &r) != 3 || r != 'r') continue;
    for (const float* p = (const float*)from; p + 4 <= (const float*)to; ++p) {
      bool same = true;
      for (int j = 0; j < 4; ++j) same = same && __builtin_fabsf(p[j] - right[j]) <= 1e-5f * __builtin_fabsf(right[j]);
      if (same && p != y + first) { memcpy(y + first, p, 4 * (last + 1 - first)); break; }
    }
  }
  fclose(maps);
  return;
)"),
       Status::wrong, "was not written"},
  };
}

// Memory that is not theirs.
std::vector<Hostile> trespassers() {
  return {
      {"WritesPastTheEnd", rmsnorm_source("", "y[last + 1] = 1;"), Status::wrong,
       "outside the bounds of output 'out'"},
      {"WritesAPagePastTheEnd", rmsnorm_source("", "y[last + 1024] = 1;"), Status::wrong,
       "outside the bounds of output 'out'"},
      {"WritesBeforeTheStart", rmsnorm_source("", "y[-1] = 1;"), Status::wrong,
       "outside the bounds of output 'out'"},
      {"WritesToAnInput", rmsnorm_source("((float*)x)[0] = 2;"), Status::wrong,
       "wrote to an input"},
      {"ReadsPastAnInput", rmsnorm_source("volatile float far = w[d]; (void)far;"), Status::wrong,
       "read past the end"},
      {"FollowsNoPointer", rmsnorm_source("*(volatile int*)8 = 1;"), Status::crashed, "signal 11"},
      {"AllocatesWithoutEnd",
       with_library("for (;;) { void* p = malloc(1 << 26); if (!p) __builtin_trap(); "
                    "memset(p, 1, 1 << 26); }"),
       Status::crashed, "signal"},
  };
}

// Ends of their own, or none.
std::vector<Hostile> deserters() {
  return {
      {"Aborts", rmsnorm_source("abort();", "", "extern \"C\" void abort();"), Status::crashed,
       "signal 6"},
      {"Exits", rmsnorm_source("_exit(0);", "", "extern \"C\" void _exit(int);"), Status::crashed,
       "exit status 0"},
      {"ExitsInOrder", rmsnorm_source("exit(0);", "", "extern \"C\" void exit(int);"),
       Status::crashed, ""},
      {"Throws", rmsnorm_source("throw 1;"), Status::compile_error, "exception"},
      {"RecursesWithoutEnd",
       rmsnorm_source("y[first] = deep(1000000000);", "",
                      "static float deep(int n) { volatile char space[4096]; space[n % 4096] = 1; "
                      "return n ? deep(n - 1) + space[(n + 1) % 4096] : 0; }"),
       Status::crashed, "signal 11"},
      {"Hangs", rmsnorm_source("for (;;) __asm__ volatile(\"\");"), Status::timeout,
       "longer than 1.0 s"},
      {"SleepsForEver", with_library("for (;;) pause();"), Status::timeout, "longer than 1.0 s"},
      {"ClosesDescriptors", with_library("for (int fd = 0; fd < 64; ++fd) close(fd);"),
       Status::crashed, ""},
      {"DoesNotCompile", "this is no C++", Status::compile_error, "error"},
      {"ExportsNothing", "int nothing;", Status::launch_error, "mlx_kd_rmsnorm"},
  };
}

// The process that they run in.
std::vector<Hostile> meddlers() {
  return {
      {"WorksOnAfterItReturned",
       with_library("if (first == 0) { unsigned long id; pthread_create(&id, nullptr, later, y); "
                    "pthread_detach(id); }",
                    "", "static void* later(void*) { usleep(300000); return nullptr; }"),
       Status::wrong, "a thread"},
      {"Forks", with_library("if (fork() == 0) for (;;) sleep(1000);"), Status::wrong, "a process"},
      {"ForksTwiceInASessionOfItsOwn",
       with_library(
           "if (fork() == 0) { setsid(); if (fork() == 0) for (;;) sleep(1000); _exit(0); }", "",
           "extern \"C\" void _exit(int);"),
       Status::wrong, "a process"},
      {"ChangesTheRounding", with_library("", "fesetround(0x400);"), Status::wrong,
       "floating-point mode"},
      {"FlushesSubnormals",
       rmsnorm_source("",
                      "unsigned mode = 0x9fc0; __asm__ volatile(\"ldmxcsr %0\" : : \"m\"(mode));"),
       Status::wrong, "floating-point mode"},
      {"HandlesSignals", with_library("signal(11, [](int) { for (;;) pause(); });"), Status::wrong,
       "signal handler"},
      {"ForgesAnAnswer",
       with_library("const char answer[] = \"{\\\"status\\\": \\\"benchmarked\\\", \\\"reason\\\": "
                    "\\\"\\\", \\\"errors\\\": []}\\n\"; for (int fd = 3; fd < 16; ++fd) "
                    "write(fd, answer, sizeof answer - 1); return;"),
       Status::crashed, "answer"},
      {"FloodsItsOutput",
       with_library("static char text[1 << 16]; for (int i = 0; i < 20000; ++i) "
                    "write(1, text, sizeof text);",
                    "y[last] += 1;"),
       Status::wrong, "float64 says"},
      {"SlowsTheClock",
       with_library(R"(
  unsigned char* clock = (unsigned char*)dlsym(nullptr, "clock_gettime");
  if (++calls == 100 && clock) {
    started = now();
    mprotect((void*)((unsigned long)clock & ~4095ul), 8192, 7);
    unsigned char jump[12] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0};  // mov rax, ..; jmp rax
    void* to = (void*)&slow;
    memcpy(jump + 2, &to, 8);
    memcpy(clock, jump, sizeof jump);
  }
)",
                    "", R"(
extern "C" long syscall(long, ...);
static int calls;
static long started;
static long now() { long t[2]; syscall(228, 1, t); return t[0] * 1000000000 + t[1]; }
static int slow(int, long* t) {
  const long told = started + (now() - started) / 4;
  t[0] = told / 1000000000; t[1] = told % 1000000000;
  return 0;
}
)"),
       Status::suspicious, "clock"},
  };
}

class HostileKernel : public testing::TestWithParam<Hostile> {};
const auto kName = [](const auto& each) { return each.param.name; };
INSTANTIATE_TEST_SUITE_P(adversaries_that_lie, HostileKernel, testing::ValuesIn(liars()), kName);
INSTANTIATE_TEST_SUITE_P(adversaries_that_trespass, HostileKernel, testing::ValuesIn(trespassers()),
                         kName);
INSTANTIATE_TEST_SUITE_P(adversaries_that_end, HostileKernel, testing::ValuesIn(deserters()),
                         kName);
INSTANTIATE_TEST_SUITE_P(adversaries_that_meddle, HostileKernel, testing::ValuesIn(meddlers()),
                         kName);

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
  EXPECT_TRUE(found[1].sizes.empty() || found[1].status == Status::suspicious);
  EXPECT_EQ(name_of(found[2].status), "benchmarked") << found[2].reason;
}

// What a compiler is made to do.
std::vector<Hostile> time_wasters() {
  std::string tokens = "#define X0 + 1\n";
  for (int i = 1; i < 10; ++i) {
    tokens += "#define X" + std::to_string(i);
    for (int k = 0; k < 16; ++k) tokens += " X" + std::to_string(i - 1);
    tokens += "\n";
  }
  return {
      {"IncludesADeviceWithoutEnd", "#include \"/dev/zero\"\n", Status::compile_error,
       "took longer"},
      {"ExpandsWithoutEnd", tokens + "int sum = 0 X9;\n", Status::compile_error, "took longer"},
      {"EmitsAGigabyte", "char large[1u << 30] = {1};\n" + rmsnorm_source(""),
       Status::compile_error, ""},
  };
}

class HostileSource : public testing::TestWithParam<Hostile> {};
INSTANTIATE_TEST_SUITE_P(adversaries_that_are_compiled, HostileSource,
                         testing::ValuesIn(time_wasters()), kName);

TEST_P(HostileSource, IsGivenUpInTime) {
  EvaluateOptions options;
  options.compile_limit_s = 1;
  options.prove_only = true;
  const auto evaluator = rmsnorm_evaluator(options);
  const auto found = verdicts(*evaluator, {rmsnorm_candidate(GetParam().source)});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(name_of(found[0].status), name_of(GetParam().status)) << found[0].reason;
  EXPECT_NE(found[0].reason.find(GetParam().reason), std::string::npos) << found[0].reason;
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
