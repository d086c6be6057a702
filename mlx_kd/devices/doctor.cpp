#include "mlx_kd/devices/doctor.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "mlx/version.h"
#include "mlx_kd/devices/registry.h"

namespace mlx_kd::devices {
namespace {

std::string gib(double bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GiB", bytes / (1 << 30));
  return text;
}

Finding examine_mlx() {
  const std::string version = mlx::core::version();
  if (version.rfind("0.32.", 0) == 0) return {Level::ok, "mlx", version, ""};
  return {Level::warn, "mlx", version,
          "kernels are proved against MLX 0.32: pins of another version are not shared with it"};
}

// MemAvailable of /proc/meminfo in bytes, 0 where there is none.
double available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  for (double kib = 0; file >> name >> kib; std::getline(file, unit))
    if (name == "MemAvailable:") return kib * 1024;
  return 0;
}

Finding examine_memory() {
  const double total =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  const double available = available_memory();
  const std::string text =
      gib(total) + (available > 0 ? ", " + gib(available) + " of it available" : "");
  if (available > 0 && available < 2.0 * (1 << 30))
    return {Level::warn, "memory", text, "large sizes need about 2 GiB: close other programs"};
  return {Level::ok, "memory", text, ""};
}

Finding examine_limits() {
  rlimit files{}, space{};
  getrlimit(RLIMIT_NOFILE, &files);
  getrlimit(RLIMIT_AS, &space);
  const bool bounded = space.rlim_cur != RLIM_INFINITY;
  const std::string text =
      std::to_string(files.rlim_cur) + " open files, address space " +
      (bounded ? gib(static_cast<double>(space.rlim_cur)) : std::string("not limited"));
  if (files.rlim_cur < 256)
    return {Level::warn, "limits", text, "allow at least 256 open files: ulimit -n 1024"};
  if (bounded && static_cast<double>(space.rlim_cur) < 8.0 * (1 << 30))
    return {Level::warn, "limits", text, "MLX maps much memory: ulimit -v unlimited"};
  return {Level::ok, "limits", text, ""};
}

Finding examine_load() {
  double load = 0;
  if (getloadavg(&load, 1) != 1) return {Level::warn, "load", "not known", ""};
  const long cores = sysconf(_SC_NPROCESSORS_ONLN);
  char text[64];
  std::snprintf(text, sizeof text, "%.2f over the last minute, %ld processors", load, cores);
  if (load > 0.5 * static_cast<double>(cores))
    return {Level::warn, "load", text,
            "the machine is busy, times will be noisy: wait, or stop it"};
  return {Level::ok, "load", text, ""};
}

}  // namespace

std::string name_of(Level level) {
  return level == Level::ok ? "ok" : level == Level::warn ? "warn" : "fail";
}

std::vector<Finding> examine_machine() {
  std::vector<Finding> findings = {examine_mlx(), examine_memory(), examine_limits(),
                                   examine_load()};
  for (const DeviceKind& kind : all_kinds())
    for (Finding& finding : kind.examine()) findings.push_back(std::move(finding));
  return findings;
}

}  // namespace mlx_kd::devices
