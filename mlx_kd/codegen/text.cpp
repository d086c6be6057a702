#include "mlx_kd/codegen/text.h"

#include <sstream>

namespace mlx_kd::codegen {

std::string joined(const std::vector<std::string>& parts, const std::string& between) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) text += (i ? between : "") + parts[i];
  return text;
}

std::string wrapped(const std::string& text, const std::string& prefix, size_t width) {
  std::istringstream words(text);
  std::string result, line;
  for (std::string word; words >> word;) {
    if (!line.empty() && prefix.size() + line.size() + 1 + word.size() > width) {
      result += prefix + line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return line.empty() ? result : result + prefix + line + "\n";
}

std::string first_sentence(const std::string& text) {
  return text.substr(0, text.find(". ") == text.npos ? text.npos : text.find(". ") + 1);
}

std::string after_first_sentence(const std::string& text) {
  const size_t end = text.find(". ");
  return end == text.npos ? "" : text.substr(end + 2);
}

}  // namespace mlx_kd::codegen
