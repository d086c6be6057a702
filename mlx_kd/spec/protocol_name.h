// What a protocol of measurement is called. Times of different protocols are not compared.
#pragma once

#include <string>

namespace mlx_kd::spec {

// The name of a protocol as a file states it:
//   "4"               version 4 with its default settings
//   "4-device-clock"  the same where the device's own clock times the kernels
//   "4+9f31c2aa"      the same with other settings: a hash of those that differ
//   "3", "2", ...     the same of older versions
//   "v1"              times of zmlx.kd
//   "null"            invented by the null device
// Files from before version 2 state a hash of all settings. The hashes of the default settings are
// read as "2" and "2-device-clock", whose settings are equal; every other text is its own name.
std::string protocol_name(const std::string& stored);

}  // namespace mlx_kd::spec
