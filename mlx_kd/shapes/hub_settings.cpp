#include "mlx_kd/shapes/hub_settings.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "mlx_kd/base/error.h"

namespace mlx_kd::shapes {
namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

fs::path home() {
  const std::string value = variable("HOME");
  return value.empty() ? fs::path(".") : fs::path(value);
}

fs::path without_tilde(const std::string& path) {
  const bool is_home = path == "~" || path.rfind("~/", 0) == 0;
  return is_home ? home() / path.substr(std::min<size_t>(path.size(), 2)) : fs::path(path);
}

fs::path hub_home() {
  if (const std::string given = variable("HF_HOME"); !given.empty()) return without_tilde(given);
  const std::string caches = variable("XDG_CACHE_HOME");
  return (caches.empty() ? home() / ".cache" : without_tilde(caches)) / "huggingface";
}

bool is_on(const char* name) {
  std::string value = variable(name);
  std::transform(value.begin(), value.end(), value.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (value == "1" || value == "true" || value == "yes" || value == "on") return true;
  if (value.empty() || value == "0" || value == "false" || value == "no" || value == "off")
    return false;
  base::misuse("shapes", std::string(name) + " is '" + value.substr(0, 80) +
                             "', neither on nor off: set it to 1 or 0");
}

double seconds_of(const char* name, double otherwise) {
  const std::string value = variable(name);
  if (value.empty()) return otherwise;
  char* end = nullptr;
  const double seconds = std::strtod(value.c_str(), &end);
  if (*end != '\0' || !(seconds >= 0.1) || !(seconds <= 86400))
    base::misuse("shapes", std::string(name) + " is '" + value.substr(0, 80) +
                               "': give seconds, from 0.1 to 86400");
  return seconds;
}

bool is_plain(const std::string& text) {
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return c > 0x20 && c < 0x7f && c != '"' && c != '\\'; });
}

std::string endpoint() {
  std::string value = variable("HF_ENDPOINT");
  if (value.empty()) return HubSettings().endpoint;
  const bool is_web = value.rfind("http://", 0) == 0 || value.rfind("https://", 0) == 0;
  if (!is_web || !is_plain(value))
    base::misuse("shapes", "HF_ENDPOINT is '" + value.substr(0, 80) +
                               "': give the address of a hub, as https://huggingface.co");
  while (value.back() == '/') value.pop_back();
  return value;
}

}  // namespace

HubSettings hub_settings() {
  HubSettings result;
  const std::string cache = variable("HF_HUB_CACHE");
  result.cache = cache.empty() ? hub_home() / "hub" : without_tilde(cache);
  result.endpoint = endpoint();
  std::string value = variable("HF_TOKEN");
  if (value.empty()) {
    const std::string path = variable("HF_TOKEN_PATH");
    std::ifstream file(path.empty() ? hub_home() / "token" : without_tilde(path));
    file >> value;
  }
  if (!is_plain(value))
    base::misuse("shapes",
                 "the token for the hub holds a blank or a character that no token has: "
                 "set HF_TOKEN to a valid one");
  result.token = value;
  result.offline = is_on("HF_HUB_OFFLINE");
  result.ask_s = seconds_of("HF_HUB_ETAG_TIMEOUT", result.ask_s);
  result.transfer_s = seconds_of("HF_HUB_DOWNLOAD_TIMEOUT", result.transfer_s);
  return result;
}

}  // namespace mlx_kd::shapes
