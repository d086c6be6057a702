#include "mlx_kd/base/process_tree.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <vector>

#ifdef __linux__
#include <sys/prctl.h>
#endif

namespace mlx_kd::base {
namespace {

constexpr int kRounds = 50;  // one that forks while it is looked for is found in the next round

std::vector<pid_t> all_processes() {
  std::vector<pid_t> result;
  DIR* const folder = opendir("/proc");
  if (!folder) return result;
  while (const dirent* entry = readdir(folder))
    if (const pid_t pid = std::atoi(entry->d_name); pid > 0) result.push_back(pid);
  closedir(folder);
  return result;
}

// Nothing where the process ends meanwhile: then reading fails, which an iterator over the buffer
// would throw.
std::string content(pid_t pid, const char* file) {
  const std::ifstream in("/proc/" + std::to_string(pid) + "/" + file);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// 0 if the process is gone, or waits to be waited for.
pid_t parent_of(pid_t pid) {
  const std::vector<std::string> fields = stat_fields(pid);
  return fields.size() < 2 || fields[0] == "Z" ? 0 : std::atoi(fields[1].c_str());
}

std::set<pid_t> descendants() {
  std::map<pid_t, pid_t> parents;
  for (const pid_t pid : all_processes()) parents[pid] = parent_of(pid);
  std::set<pid_t> found{getpid()};
  for (size_t before = 0; before != found.size();) {
    before = found.size();
    for (const auto& [pid, parent] : parents)
      if (found.count(parent)) found.insert(pid);
  }
  found.erase(getpid());
  return found;
}

}  // namespace

std::vector<std::string> stat_fields(pid_t pid) {
  const std::string stat = content(pid, "stat");
  const size_t name_end = stat.rfind(')');  // a name may hold spaces
  if (name_end == std::string::npos) return {};
  std::istringstream rest(stat.substr(name_end + 1));
  return {std::istream_iterator<std::string>(rest), {}};
}

void keep_descendants() {
#ifdef __linux__
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
#endif
}

void end_descendants() {
  for (int round = 0; round < kRounds; ++round) {
    const std::set<pid_t> found = descendants();
    for (const pid_t pid : found) kill(pid, SIGKILL);
    while (waitpid(-1, nullptr, WNOHANG) > 0) continue;
    if (found.empty()) return;
    usleep(1000);
  }
}

void end_processes_with(const std::string& entry) {
  const std::string wanted = entry + '\0';
  for (int round = 0; round < kRounds; ++round) {
    bool any = false;
    for (const pid_t pid : all_processes()) {
      if (pid == getpid() || parent_of(pid) == 0) continue;
      const std::string environment = content(pid, "environ");
      const size_t at = environment.find(wanted);
      if (at == std::string::npos || (at > 0 && environment[at - 1] != '\0')) continue;
      any = kill(pid, SIGKILL) == 0 || any;
    }
    if (!any) return;
    usleep(1000);
  }
}

}  // namespace mlx_kd::base
