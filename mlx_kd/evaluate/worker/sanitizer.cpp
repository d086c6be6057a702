#include "mlx_kd/evaluate/worker/sanitizer.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/evaluator.h"

namespace mlx_kd::evaluate {
namespace {

namespace fs = std::filesystem;

constexpr const char* kName = "compute-sanitizer";
constexpr const char* kSetting = "MLX_KD_SANITIZER";
constexpr const char* kMark = "========= ";  // every line of a log begins so
// What a log says that is no finding.
constexpr const char* kOthers[] = {"COMPUTE-SANITIZER", "ERROR SUMMARY", "LEAK SUMMARY",
                                   "RACECHECK SUMMARY", "Target application"};

bool can_run(const fs::path& file) {
  std::error_code error;
  return fs::is_regular_file(file, error) && access(file.c_str(), X_OK) == 0;
}

// A finding begins with a line whose text is not indented; what belongs to it is.
bool is_finding(const std::string& text) {
  if (text.empty() || text.front() == ' ') return false;
  return std::none_of(std::begin(kOthers), std::end(kOthers),
                      [&](const char* other) { return text.rfind(other, 0) == 0; });
}

}  // namespace

std::string find_sanitizer(const std::string& device_kind) {
  if (device_kind != "cuda")
    base::misuse("evaluate", "--sanitize watches kernels on the device cuda, not on '" +
                                 device_kind + "': leave it out, or give --device cuda");
  if (const char* const own = std::getenv(kSetting); own && *own) {
    if (can_run(own)) return own;
    base::misuse("evaluate", std::string(kSetting) + " is '" + own +
                                 "', which cannot be run: give the path of compute-sanitizer");
  }
  std::vector<fs::path> folders;
  std::stringstream path(std::getenv("PATH") ? std::getenv("PATH") : "");
  for (std::string folder; std::getline(path, folder, ':');) folders.emplace_back(folder);
  folders.emplace_back("/usr/local/cuda/bin");
  for (const fs::path& folder : folders)
    if (can_run(folder / kName)) return (folder / kName).string();
  base::misuse("evaluate", std::string("--sanitize needs compute-sanitizer, which is not in PATH "
                                       "nor in /usr/local/cuda/bin: install the CUDA toolkit's, or "
                                       "name it in ") +
                               kSetting);
}

std::vector<std::string> sanitizer_command(const std::string& program, const std::string& log) {
  return {program, "--tool", "memcheck", "--log-file", log};
}

std::string findings_of(const std::string& log) {
  std::stringstream lines(log);
  std::string first;
  size_t count = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string mark = kMark;
    if (line.rfind(mark, 0) != 0 || !is_finding(line.substr(mark.size()))) continue;
    if (count++ == 0) first = line.substr(mark.size());
  }
  if (count < 2) return first;
  return first + " (and " + std::to_string(count - 1) + " more)";
}

}  // namespace mlx_kd::evaluate
