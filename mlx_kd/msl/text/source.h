// Metal texts, and places in them. Every message of this room names one: "file:line:column".
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace mlx_kd::msl {

// The most that one translation reads: the file with all its includes, in bytes.
inline constexpr size_t kMaxSourceBytes = size_t{4} << 20;

// Lines and columns count from 1; columns count bytes.
struct Position {
  uint32_t file = 0;
  uint32_t line = 0;
  uint32_t column = 0;
};

// The texts of one translation. Views into them stay valid as long as the object lives.
class SourceSet {
 public:
  // Misuse if the text is not a text (a NUL byte, no UTF-8) or if all texts exceed kMaxSourceBytes.
  uint32_t add(std::string name, std::string text);
  // Keeps a spelling that no file holds (tokens made by macros).
  std::string_view keep(std::string text);

  const std::string& name(uint32_t file) const { return files_[file].name; }
  std::string_view text(uint32_t file) const { return files_[file].text; }
  size_t size() const { return files_.size(); }

  // "kernels.metal:12:7"
  std::string describe(Position at) const;

 private:
  struct File {
    std::string name;
    std::string text;
  };
  std::deque<File> files_;
  std::deque<std::string> kept_;
  size_t bytes_ = 0;
};

// What is wrong where; `section` is that of the Metal Shading Language specification (4) whose
// rule is broken, "" if the text is broken in a simpler way.
struct Diagnostic {
  Position at;
  std::string message;
  std::string section;
};

// "kernels.metal:12:7: message (Metal specification 4.4)"
std::string describe(const SourceSet& sources, const Diagnostic& diagnostic);

// Misuse with the place in front of the message.
[[noreturn]] void refuse(const SourceSet& sources, Position at, const std::string& message,
                         const std::string& section = "");

}  // namespace mlx_kd::msl
