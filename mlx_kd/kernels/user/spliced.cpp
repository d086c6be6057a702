#include "mlx_kd/kernels/user/spliced.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"

namespace mlx_kd::kernels::user {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMostFile = uint64_t(4) << 20;
constexpr int kMostIncludes = 32;

class Splicer {
 public:
  void add(const fs::path& file) {
    if (seen_.size() > kMostIncludes)
      base::misuse("tune",
                   file.string() + " includes more than 32 files: put the kernel into fewer");
    const std::string text = base::read_file(file, "tune", kMostFile);
    const std::string name = file.filename().string() + ":";
    size_t number = 0;
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
      add_line(file, text.substr(at, end - at), name + std::to_string(++number));
      at = end;
    }
  }

  Spliced take() { return std::move(result_); }

 private:
  void add_line(const fs::path& file, const std::string& line, const std::string& place) {
    const size_t first = line.find_first_not_of(" \t");
    const size_t quote = line.find('"'), behind = line.find('"', quote + 1);
    const bool is_include = first != line.npos && line.compare(first, 8, "#include") == 0 &&
                            quote != line.npos && behind != line.npos;
    const bool is_once = first != line.npos && line.compare(first, 12, "#pragma once") == 0;
    const fs::path other =
        is_include ? file.parent_path() / line.substr(quote + 1, behind - quote - 1) : fs::path();
    std::error_code ignored;
    if (!is_include || !fs::exists(other, ignored)) return put(is_once ? "\n" : line, place);
    if (seen_.insert(fs::weakly_canonical(other)).second) add(other);
    put("\n", place);
  }

  void put(const std::string& line, const std::string& place) {
    if (result_.text.empty() || result_.text.back() == '\n') result_.places.push_back(place);
    result_.text += line;
  }

  std::set<fs::path> seen_;
  Spliced result_;
};

// The number at i and where it ends; 0 where none begins there.
size_t number_at(const std::string& text, size_t& i) {
  size_t number = 0;
  const auto [end, error] = std::from_chars(text.data() + i, text.data() + text.size(), number);
  if (error != std::errc()) return 0;
  i = static_cast<size_t>(end - text.data());
  return number;
}

}  // namespace

Spliced spliced(const fs::path& file) {
  Splicer splicer;
  splicer.add(file);
  return splicer.take();
}

std::string in_user_files(std::string message, const std::vector<std::string>& names,
                          const std::vector<std::string>& places) {
  size_t done = 0;
  while (true) {
    size_t begin = message.npos, name_end = 0;
    for (const std::string& name : names)
      if (const size_t found = message.find(name + ":", done); found < begin)
        begin = found, name_end = found + name.size() + 1;
    if (begin == message.npos) return message;
    size_t end = name_end;
    const size_t line = number_at(message, end);
    done = end;
    if (line == 0 || line > places.size() || places[line - 1].empty()) continue;
    message.replace(begin, end - begin, places[line - 1]);
    done = begin + places[line - 1].size();
  }
}

}  // namespace mlx_kd::kernels::user
