// Which texts of kernels hold something that those before them did not: the kernels of a family
// share most of their lines, and each takes seconds to compile.
#pragma once

#include <cstdlib>
#include <set>
#include <sstream>
#include <string>

namespace mlx_kd::tests {

class NewTexts {
 public:
  // Whether a line in ten of the text, or more, was in none before. Empty lines and lines that are
  // comments do not count.
  bool has_news(const std::string& text) {
    std::istringstream lines(text);
    std::string line;
    size_t count = 0, unknown = 0;
    std::set<std::string> own;
    while (std::getline(lines, line)) {
      line.erase(0, line.find_first_not_of(' '));
      if (line.empty() || line.starts_with("//")) continue;
      ++count;
      if (known_.count(line)) continue;
      ++unknown;
      own.insert(line);
    }
    known_.merge(own);
    return count > 0 && 10 * unknown >= count;
  }

  // The same, and every text with MLX_KD_LONG.
  bool is_due(const std::string& text) { return has_news(text) || std::getenv("MLX_KD_LONG"); }

 private:
  std::set<std::string> known_;
};

}  // namespace mlx_kd::tests
