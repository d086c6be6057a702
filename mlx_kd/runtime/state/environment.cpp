#include "mlx_kd/runtime/state/environment.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/own_folder.h"

#ifndef MLX_KD_SHIPPED_PACKS
#define MLX_KD_SHIPPED_PACKS ""
#endif

namespace mlx_kd::runtime {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDefaultPath = "configs/discovered_kernels.json";

struct Variable {
  const char* name = nullptr;
  const char* value = nullptr;
};

// Not read in a program with more rights than its caller, where the system can tell.
const char* read_variable(const char* name) {
#ifdef __GLIBC__
  return ::secure_getenv(name);
#else
  return std::getenv(name);
#endif
}

// The first that is set; an empty value counts as not set.
Variable first_set(const char* name, const char* older_name) {
  for (const char* candidate : {name, older_name})
    if (const char* value = candidate ? read_variable(candidate) : nullptr; value && *value)
      return {candidate, value};
  return {};
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return text;
}

Trust env_trust() {
  const Variable variable = first_set("MLX_KD_TRUST", nullptr);
  const std::string text = variable.value ? lower(variable.value) : "owner";
  if (text == "owner") return Trust::owner;
  if (text == "anyone") return Trust::anyone;
  base::misuse("runtime", "MLX_KD_TRUST is '" + std::string(variable.value) +
                              "': set it to owner or anyone (docs/security.md)");
}

std::vector<std::string> packs_in(const fs::path& folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& item : fs::directory_iterator(folder, error))
    if (item.path().extension() == ".json") files.push_back(item.path().string());
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> sorted_names(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

// What code gave, else the environment's switch, else off.
bool switched(std::optional<bool> given, const char* name, const char* older_name = nullptr) {
  return given ? *given : env_switch(name, older_name).value_or(false);
}

}  // namespace

std::optional<bool> env_switch(const char* name, const char* older_name) {
  const Variable variable = first_set(name, older_name);
  if (!variable.value) return std::nullopt;
  const std::string text = lower(variable.value);
  for (const char* on : {"1", "on", "true", "yes"})
    if (text == on) return true;
  for (const char* off : {"0", "off", "false", "no"})
    if (text == off) return false;
  base::misuse("runtime", std::string(variable.name) + " is '" + variable.value +
                              "': set it to 1 or 0 (on, off, true, false, yes, no)");
}

std::optional<std::string> env_value(const char* name, const char* older_name) {
  const Variable variable = first_set(name, older_name);
  return variable.value ? std::optional<std::string>(variable.value) : std::nullopt;
}

int64_t env_count(const char* name, const char* older_name, int64_t otherwise) {
  const Variable variable = first_set(name, older_name);
  if (!variable.value) return otherwise;
  const std::string text = variable.value;
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end || value < 1)
    base::misuse("runtime",
                 std::string(variable.name) + " is '" + text + "': give a whole number from 1 on");
  return value;
}

std::vector<std::string> shipped_packs() {
  std::istringstream folders(MLX_KD_SHIPPED_PACKS);
  std::string looked;
  for (std::string folder; std::getline(folders, folder, ':');) {
    const fs::path place = (base::own_folder() / folder).lexically_normal();
    if (const auto files = packs_in(place); !files.empty()) return files;
    looked += (looked.empty() ? "" : ", ") + place.string();
  }
  base::misuse("runtime", "no packs came with this build (looked in " + looked +
                              "): name a file in MLX_KD_DISCOVERED_KERNELS_PATH");
}

Effective effective(const Settings& given) {
  const auto path = env_value("MLX_KD_DISCOVERED_KERNELS_PATH", "ZMLX_DISCOVERED_KERNELS_PATH");
  Effective result;
  result.enabled =
      switched(given.enabled, "MLX_KD_USE_DISCOVERED_KERNELS", "ZMLX_USE_DISCOVERED_KERNELS");
  result.path = given.path ? *given.path : path.value_or(kDefaultPath);
  result.wait_for_compile = switched(given.wait_for_compile, "MLX_KD_WAIT_FOR_COMPILE");
  result.allow_approximate = switched(given.allow_approximate, "MLX_KD_ALLOW_APPROXIMATE");
  result.trust = given.trust ? *given.trust : env_trust();
  if (given.default_kernels) result.default_kernels = sorted_names(*given.default_kernels);
  if (result.path != "shipped") result.files = {result.path};
  return result;
}

}  // namespace mlx_kd::runtime
