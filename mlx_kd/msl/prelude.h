// The headers that translated texts include, as data of the program.
#pragma once

#include <filesystem>
#include <map>
#include <string>

namespace mlx_kd::msl {

// File name -> text: "kd_metal.h", "abi.h", ...
const std::map<std::string, std::string>& prelude();

// Writes them into `folder`, which is created. Fails with the system's reason.
void write_prelude(const std::filesystem::path& folder);

// One hash over all of them: a compiled kernel is as old as they are.
const std::string& prelude_hash();

}  // namespace mlx_kd::msl
