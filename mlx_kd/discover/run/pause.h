// A run leaves the device to a program that uses it, which changes a file as long as it does.
#pragma once

#include <filesystem>
#include <functional>

namespace mlx_kd::discover {

// Returns when the file was not changed within the last second, or when `ended` says so; at once
// without a file.
void wait_while_in_use(const std::filesystem::path& file, const std::function<bool()>& ended);

}  // namespace mlx_kd::discover
