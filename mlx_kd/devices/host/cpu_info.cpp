#include "mlx_kd/devices/host/cpu_info.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "mlx/device.h"
#include "mlx_kd/devices/host/environment.h"

#ifdef __linux__
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace mlx_kd::devices::cpu {
namespace {

namespace fs = std::filesystem;
namespace mx = mlx::core;

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

#ifdef __linux__

int processors_in_affinity_mask() {
  // A mask of 8192 processors: larger than any kernel's.
  constexpr int kProcessors = 8192;
  cpu_set_t* set = CPU_ALLOC(kProcessors);
  const size_t size = CPU_ALLOC_SIZE(kProcessors);
  const int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
  CPU_FREE(set);
  return count > 0 ? count : static_cast<int>(std::thread::hardware_concurrency());
}

// Processors that one cpu.max file ("200000 100000", "max 100000") allows; infinity if none.
double quota_of(const fs::path& file) {
  std::istringstream text(first_line(file));
  double quota = 0, period = 0;
  return text >> quota >> period && period > 0 && quota > 0 ? quota / period : INFINITY;
}

double quota_v1() {
  std::istringstream text(first_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") + " " +
                          first_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us"));
  double quota = 0, period = 0;
  return text >> quota >> period && period > 0 && quota > 0 ? quota / period : INFINITY;
}

// The tightest quota on the way from this process's group to the root (version 2, then 1).
double processor_quota() {
  const fs::path root = "/sys/fs/cgroup";
  double quota = std::min(quota_of(root / "cpu.max"), quota_v1());
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.rfind("0::/", 0) != 0) continue;
    for (fs::path group = line.substr(4); !group.empty(); group = group.parent_path())
      quota = std::min(quota, quota_of(root / group / "cpu.max"));
  }
  return quota;
}

int find_usable_cores() {
  const double quota = std::ceil(processor_quota());
  return std::max(1, static_cast<int>(std::min<double>(processors_in_affinity_mask(), quota)));
}

// sysfs first: sysconf counts every slice of a level-3 cache on some machines.
CacheSizes find_cache_sizes() {
  CacheSizes sizes;
  const fs::path root = "/sys/devices/system/cpu/cpu0/cache";
  for (int index = 0; index < 8; ++index) {
    const fs::path folder = root / ("index" + std::to_string(index));
    const std::string level = first_line(folder / "level"), type = first_line(folder / "type");
    if (type == "Instruction") continue;
    // "48K", "32768K", "1M" -> bytes.
    std::istringstream stream(first_line(folder / "size"));
    int64_t value = 0;
    char unit = 0;
    stream >> value >> unit;
    const int64_t bytes = unit == 'K' ? value << 10 : unit == 'M' ? value << 20 : value;
    if (level == "1") sizes.l1 = bytes;
    if (level == "2") sizes.l2 = bytes;
    if (level == "3") sizes.l3 = bytes;
  }
  if (sizes.l1 == 0) sizes.l1 = std::max(0L, sysconf(_SC_LEVEL1_DCACHE_SIZE));
  if (sizes.l2 == 0) sizes.l2 = std::max(0L, sysconf(_SC_LEVEL2_CACHE_SIZE));
  return sizes;
}

#else

int find_usable_cores() {
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

CacheSizes find_cache_sizes() {
  CacheSizes sizes;
#ifdef __APPLE__
  size_t length = sizeof(int64_t);
  sysctlbyname("hw.perflevel0.l1dcachesize", &sizes.l1, &length, nullptr, 0);
  sysctlbyname("hw.perflevel0.l2cachesize", &sizes.l2, &length, nullptr, 0);
#endif
  return sizes;
}

#endif

std::string mlx_says(const std::string& key) {
  const auto& info = mx::device_info(mx::Device::cpu);
  const auto found = info.find(key);
  const auto* text = found == info.end() ? nullptr : std::get_if<std::string>(&found->second);
  return text ? *text : "unknown";
}

// Instruction sets that kernels may be compiled for. A kernel that uses tile registers has no other
// form, and the architecture that MLX_KD_MARCH names may lack them: then the amx sets are left out.
std::vector<std::string> sets_of_kernels() {
  std::vector<std::string> sets = instruction_sets();
  if (env_text("MLX_KD_MARCH", "native") != "native")
    std::erase_if(sets, [](const std::string& name) { return name.starts_with("amx"); });
  return sets;
}

}  // namespace

int usable_cores() {
  static const int cores = find_usable_cores();
  return cores;
}

CacheSizes cache_sizes() {
  static const CacheSizes sizes = find_cache_sizes();
  return sizes;
}

spec::DeviceId make_cpu_id() {
  spec::DeviceId id;
  id.kind = "cpu";
  id.arch = mlx_says("architecture");
  id.name = mlx_says("device_name");
  id.traits.cores = usable_cores();
  id.traits.vector_bytes = vector_bytes();
  id.traits.isa = sets_of_kernels();
  const CacheSizes sizes = cache_sizes();
  if (sizes.l1 > 0) id.traits.l1_bytes = sizes.l1;
  if (sizes.l2 > 0) id.traits.l2_bytes = sizes.l2;
  id.traits.l3_bytes = sizes.l3;
  id.target = {{"isa", instruction_sets()}, {"cores", id.traits.cores}};
  return id;
}

}  // namespace mlx_kd::devices::cpu
