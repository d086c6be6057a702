// A kernel's file with the files that it includes, and where each of its lines comes from.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mlx_kd::kernels::user {

struct Spliced {
  std::string text;
  std::vector<std::string> places;  // of each line: "softmax.metal:3"
};

// The text with the files that it includes in quotes in place of those lines, each once. Misuse for
// a file that cannot be read, is larger than 4 MiB or includes more than 32 others.
Spliced spliced(const std::filesystem::path& file);

// The message with the places of the user's files where it names lines of the text that was made
// of them, as "NAME:LINE:COLUMN" with one of `names`. Lines without a place stay.
std::string in_user_files(std::string message, const std::vector<std::string>& names,
                          const std::vector<std::string>& places);

}  // namespace mlx_kd::kernels::user
