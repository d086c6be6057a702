#include "mlx_kd/discover/ranks/process_name.h"

#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/process_tree.h"
#include "mlx_kd/spec/count.h"

namespace mlx_kd::discover {
namespace {

// Empty if the file cannot be read.
std::string first_line_of(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string pid_space() {
  char target[64];
  const ssize_t size = readlink("/proc/self/ns/pid", target, sizeof target);
  return size > 0 ? std::string(target, static_cast<size_t>(size)) : "";
}

// Field 22 of its stat, in clock ticks since the machine started.
std::string start_of(long pid) {
  const std::vector<std::string> fields = base::stat_fields(static_cast<pid_t>(pid));
  return fields.size() > 19 ? fields[19] : "";
}

}  // namespace

ProcessName own_process() {
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  const std::string boot = first_line_of("/proc/sys/kernel/random/boot_id");
  return {host, boot.empty() ? host : boot, pid_space(), getpid(), start_of(getpid())};
}

base::Json to_json(const ProcessName& name) {
  return {{"host", name.host},
          {"machine", name.machine},
          {"space", name.space},
          {"pid", name.pid},
          {"started", name.started}};
}

ProcessName process_from_json(const base::Json& value) try {
  return {value.at("host").get<std::string>(), value.at("machine").get<std::string>(),
          value.at("space").get<std::string>(), static_cast<long>(spec::count_of(value.at("pid"))),
          value.at("started").get<std::string>()};
} catch (const base::Json::exception&) {
  base::misuse("discover",
               "a rank does not say which process it is: start all ranks with the same mlx-kd");
}

void end_silent(const ProcessName& name) {
  const ProcessName mine = own_process();
  if (name.space.empty() || name.started.empty() || name.pid == mine.pid) return;
  if (name.machine != mine.machine || name.space != mine.space) return;
  if (start_of(name.pid) == name.started) kill(static_cast<pid_t>(name.pid), SIGKILL);
}

}  // namespace mlx_kd::discover
