// Where the running code is.
#pragma once

#include <filesystem>

namespace mlx_kd::base {

// The folder of the program or shared library that this function was linked into; "." where the
// system cannot tell. A program that was started by a bare name, or that calls itself by one, as a
// worker does, is looked up by the system's own record, not in the current folder.
std::filesystem::path own_folder();

}  // namespace mlx_kd::base
