// What the environment says of the Hugging Face hub and its cache, under the names that its own
// tools use.
#pragma once

#include <filesystem>
#include <string>

namespace mlx_kd::shapes {

struct HubSettings {
  std::filesystem::path cache;                      // HF_HUB_CACHE, else HF_HOME/hub
  std::string endpoint = "https://huggingface.co";  // HF_ENDPOINT
  std::string token;       // HF_TOKEN, else what logging in wrote: HF_TOKEN_PATH, HF_HOME/token
  bool offline = false;    // HF_HUB_OFFLINE: 1, true, yes, on; 0, false, no, off
  double ask_s = 10;       // HF_HUB_ETAG_TIMEOUT: until the hub answers
  double transfer_s = 10;  // HF_HUB_DOWNLOAD_TIMEOUT: without a byte
};

// Misuse (room shapes) naming the variable whose value cannot be meant.
HubSettings hub_settings();

}  // namespace mlx_kd::shapes
