// Asked of the processor itself: __builtin_cpu_supports knows f16c in no compiler before clang 15.
#include <algorithm>

#include "mlx_kd/devices/host/cpu_info.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#ifdef __linux__
#include <asm/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace mlx_kd::devices::cpu {
namespace {

#if defined(__x86_64__) || defined(__i386__)

enum Register { kEax, kEbx, kEcx, kEdx };
enum State : uint64_t { kAlways = 0, kAvx = 0x6, kAvx512 = 0xe6, kAmx = 0x60000 };  // bits of XCR0

// Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E.
struct Feature {
  const char* name;
  unsigned leaf, subleaf;
  Register reg;
  unsigned bit;
  State state;
};
constexpr Feature kFeatures[] = {
    {"sse42", 1, 0, kEcx, 20, kAlways},      {"fma", 1, 0, kEcx, 12, kAvx},
    {"avx", 1, 0, kEcx, 28, kAvx},           {"f16c", 1, 0, kEcx, 29, kAvx},
    {"bmi1", 7, 0, kEbx, 3, kAlways},        {"avx2", 7, 0, kEbx, 5, kAvx},
    {"bmi2", 7, 0, kEbx, 8, kAlways},        {"avx512f", 7, 0, kEbx, 16, kAvx512},
    {"avx512dq", 7, 0, kEbx, 17, kAvx512},   {"avx512cd", 7, 0, kEbx, 28, kAvx512},
    {"avx512bw", 7, 0, kEbx, 30, kAvx512},   {"avx512vl", 7, 0, kEbx, 31, kAvx512},
    {"avx512vbmi", 7, 0, kEcx, 1, kAvx512},  {"avx512vnni", 7, 0, kEcx, 11, kAvx512},
    {"avx512fp16", 7, 0, kEdx, 23, kAvx512}, {"amxbf16", 7, 0, kEdx, 22, kAmx},
    {"amxtile", 7, 0, kEdx, 24, kAmx},       {"amxint8", 7, 0, kEdx, 25, kAmx},
    {"avxvnni", 7, 1, kEax, 4, kAvx},        {"avx512bf16", 7, 1, kEax, 5, kAvx512},
};

// The register states that the system saves (XCR0); 0 if it does not say.
uint64_t saved_states() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return 0;
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t(high) << 32 | low;
}

// Linux gives a process the data of tile registers when it asks, and all its threads with it; it
// refuses where a signal stack is too small for them. (Documentation/arch/x86/xstate.rst)
bool may_use_tiles() {
#if defined(__linux__) && defined(__x86_64__) && defined(ARCH_REQ_XCOMP_PERM)
  constexpr int kTileData = 18;
  return ::syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, kTileData) == 0;
#else
  return false;
#endif
}

std::vector<std::string> find_sets() {
  uint64_t saved = saved_states();
  if ((saved & kAmx) == kAmx && !may_use_tiles()) saved &= ~uint64_t{kAmx};
  std::vector<std::string> sets;
  for (const Feature& feature : kFeatures) {
    unsigned r[4] = {};
    if (!__get_cpuid_count(feature.leaf, feature.subleaf, &r[0], &r[1], &r[2], &r[3])) continue;
    if ((r[feature.reg] >> feature.bit & 1) && (saved & feature.state) == feature.state)
      sets.push_back(feature.name);
  }
  return sets;
}

int find_vector_bytes(const std::vector<std::string>& sets) {
  const auto has = [&](const char* name) {
    return std::find(sets.begin(), sets.end(), name) != sets.end();
  };
  return has("avx512f") ? 64 : has("avx") ? 32 : 16;
}

#elif defined(__aarch64__) && defined(__linux__)

std::vector<std::string> find_sets() {
  const unsigned long one = getauxval(AT_HWCAP), two = getauxval(AT_HWCAP2);
  std::vector<std::string> sets;
  const auto add = [&](bool has, const char* name) {
    if (has) sets.push_back(name);
  };
  add(one & HWCAP_ASIMD, "asimd");
  add(one & HWCAP_ASIMDHP, "asimdhp");
  add(one & HWCAP_ASIMDDP, "asimddp");
  add(one & HWCAP_SVE, "sve");
  add(two & HWCAP2_SVE2, "sve2");
  add(two & HWCAP2_BF16, "bf16");
  add(two & HWCAP2_I8MM, "i8mm");
  return sets;
}

int find_vector_bytes(const std::vector<std::string>& sets) {
  if (std::find(sets.begin(), sets.end(), "sve") == sets.end()) return 16;
  const int length = prctl(PR_SVE_GET_VL);
  return length < 0 ? 16 : std::clamp(length & PR_SVE_VL_LEN_MASK, 16, 64);
}

#elif defined(__aarch64__) && defined(__APPLE__)

bool has_feature(const char* name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}

std::vector<std::string> find_sets() {
  std::vector<std::string> sets = {"asimd"};
  if (has_feature("hw.optional.arm.FEAT_FP16")) sets.push_back("asimdhp");
  if (has_feature("hw.optional.arm.FEAT_DotProd")) sets.push_back("asimddp");
  if (has_feature("hw.optional.arm.FEAT_BF16")) sets.push_back("bf16");
  if (has_feature("hw.optional.arm.FEAT_I8MM")) sets.push_back("i8mm");
  return sets;
}

int find_vector_bytes(const std::vector<std::string>&) {
  return 16;
}

#else

std::vector<std::string> find_sets() {
  return {};
}

int find_vector_bytes(const std::vector<std::string>&) {
  return 16;
}

#endif

}  // namespace

const std::vector<std::string>& instruction_sets() {
  static const std::vector<std::string> sets = [] {
    auto found = find_sets();
    std::sort(found.begin(), found.end());
    return found;
  }();
  return sets;
}

int vector_bytes() {
  static const int bytes = find_vector_bytes(instruction_sets());
  return bytes;
}

}  // namespace mlx_kd::devices::cpu
