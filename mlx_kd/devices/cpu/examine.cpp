#include "mlx_kd/devices/cpu/examine.h"

#include <algorithm>
#include <cstdio>
#include <fstream>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cpu/kernel_code.h"
#include "mlx_kd/devices/host/compiler.h"
#include "mlx_kd/devices/host/cpu_info.h"

namespace mlx_kd::devices::cpu {
namespace {

std::string size_text(int64_t bytes) {
  return bytes % (1 << 20) == 0 ? std::to_string(bytes >> 20) + " MiB"
                                : std::to_string(bytes >> 10) + " KiB";
}

Finding examine_processor() {
  std::string text = describe() + ":";
  for (const std::string& set : instruction_sets()) text += " " + set;
  if (usable_cores() > 1) return {Level::ok, "cpu", text, ""};
  return {Level::warn, "cpu", text,
          "one core: kernels share it with MLX's own threads, times are noisy"};
}

Finding examine_caches() {
  const CacheSizes sizes = cache_sizes();
  if (sizes.l1 == 0 || sizes.l2 == 0)
    return {Level::warn, "caches", "sizes not known", "32 KiB and 1 MiB are assumed"};
  return {Level::ok, "caches",
          "L1 " + size_text(sizes.l1) + ", L2 " + size_text(sizes.l2) +
              (sizes.l3 > 0 ? ", L3 " + size_text(sizes.l3) : ""),
          ""};
}

#if defined(__x86_64__)

// The median time in ns of one load, with its line flushed before or not.
int64_t load_ns(bool flush) {
  alignas(64) static volatile int line[16] = {};
  std::vector<int64_t> times;
  for (int i = 0; i < 501; ++i) {
    if (flush) _mm_clflush(const_cast<const int*>(line));
    _mm_mfence();
    const int64_t start = base::steady_ns();
    (void)line[0];
    _mm_mfence();
    times.push_back(base::steady_ns() - start);
  }
  std::nth_element(times.begin(), times.begin() + 250, times.end());
  return times[250];
}

Finding examine_flush() {
  load_ns(false);
  const int64_t warm = load_ns(false), cold = load_ns(true);
  const std::string text = "clflush: a load takes " + std::to_string(cold) + " ns after it, " +
                           std::to_string(warm) + " ns without";
  if (cold > warm) return {Level::ok, "flush", text, ""};
  return {Level::warn, "flush", text, "cold times cannot be trusted on this machine"};
}

#else

Finding examine_flush() {
  return {Level::ok, "flush", "cold times are made by dc civac or a sweep, not probed here", ""};
}

#endif

// The clock governor of the first processor, where the system shows it.
Finding examine_clock() {
  std::ifstream file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  std::string governor;
  if (!(file >> governor)) return {Level::ok, "clock", "no governor to set here", ""};
  if (governor == "performance") return {Level::ok, "clock", "governor performance", ""};
  return {Level::warn, "clock", "governor " + governor,
          "steadier times: sudo cpupower frequency-set -g performance"};
}

Finding examine_huge_pages() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string text;
  if (!std::getline(file, text)) return {Level::ok, "huge pages", "not known here", ""};
  if (text.find("[never]") == std::string::npos) return {Level::ok, "huge pages", text, ""};
  return {Level::warn, "huge pages", text,
          "cheaper large outputs: echo madvise | sudo tee "
          "/sys/kernel/mm/transparent_hugepage/enabled"};
}

spec::Candidate probe_candidate() {
  spec::Candidate candidate;
  candidate.op_name = "doctor";
  candidate.language = "cpp";
  candidate.func_name = "mlx_kd_doctor";
  // The time makes the source new, so that the compiler runs.
  candidate.source =
      "extern \"C\" void mlx_kd_doctor(const void* const*, void* const* out, const "
      "long*, const double*, long, long) { *(int*)out[0] = 42; } // " +
      std::to_string(base::steady_ns()) + "\n";
  candidate.outputs_spec = {{{"name", "out"}}};
  candidate.launch_params = base::Json::object();
  return candidate;
}

Finding examine_compiler_with(const ObjectCache& cache) {
  const Compiler compiler(find_toolchain(), cache);
  const std::string who = compiler.toolchain().version + " (" + compiler.toolchain().program + ")";
  const spec::Candidate candidate = probe_candidate();
  const Artifact artifact = compiler.compile(candidate, 60);
  if (!artifact.ok)
    return {Level::fail, "compiler", who + ": " + artifact.error,
            "install another compiler and name it in MLX_KD_CXX"};
  int value = 0;
  void* out = &value;
  FlatCall call;
  call.units = 1;
  KernelCode(artifact.path, candidate).run(nullptr, &out, call);
  std::error_code ignored;
  fs::remove_all(artifact.path.parent_path(), ignored);
  if (value != 42)
    return {Level::fail, "compiler", who + ": its kernel gave a wrong result",
            "install another compiler and name it in MLX_KD_CXX"};
  char text[64];
  std::snprintf(text, sizeof text, ", a small kernel in %.0f ms", artifact.compile_ms);
  return {Level::ok, "compiler", who + text, ""};
}

// "[room] what: advice" of an error, as a finding.
Finding failed(const std::string& topic, const base::Error& error) {
  std::string text = error.what();
  if (const size_t end = text.find("] "); end != std::string::npos) text.erase(0, end + 2);
  const size_t colon = text.rfind(": ");
  if (colon == std::string::npos) return {Level::fail, topic, text, ""};
  return {Level::fail, topic, text.substr(0, colon), text.substr(colon + 2)};
}

Finding examine_compiler() {
  try {
    return examine_compiler_with(ObjectCache::from_environment());
  } catch (const base::Error& error) {
    return failed("compiler", error);
  }
}

Finding examine_cache() {
  try {
    const ObjectCache cache = ObjectCache::from_environment();
    const CacheUsage usage = cache.usage();
    return {Level::ok, "kernel cache",
            cache.folder().string() + ": " + std::to_string(usage.entries) + " objects, " +
                size_text(usage.bytes >> 10 << 10) + " of at most " + size_text(cache.max_bytes()),
            ""};
  } catch (const base::Error& error) {
    return failed("kernel cache", error);
  }
}

}  // namespace

std::string describe() {
  const spec::DeviceId id = make_cpu_id();
  return id.name + " (" + id.arch + "), " + std::to_string(id.traits.cores) + " cores, " +
         std::to_string(id.traits.vector_bytes) + "-byte vectors";
}

std::vector<Finding> examine() {
  return {examine_processor(),  examine_caches(),   examine_flush(), examine_clock(),
          examine_huge_pages(), examine_compiler(), examine_cache()};
}

}  // namespace mlx_kd::devices::cpu
