// Changes to a token list, and the text that comes of them.
#pragma once

#include <string>
#include <unordered_map>

#include "mlx_kd/msl/parse/unit.h"

namespace mlx_kd::msl {

// Keyed by token index. The last of drop and replace counts; texts around a token add up.
class Edits {
 public:
  void drop(uint32_t i) { at_[i].dropped = true; }
  void drop(Range range) {
    for (uint32_t i = range.first; i < range.last; ++i) drop(i);
  }
  // With the texts around its tokens.
  void remove(Range range) {
    for (uint32_t i = range.first; i < range.last; ++i) at_[i] = {true, false, {}, {}, {}};
  }
  void replace(uint32_t i, std::string text) {
    at_[i].replaced = true;
    at_[i].dropped = false;
    at_[i].text = std::move(text);
  }
  // Later texts are further out.
  void before(uint32_t i, const std::string& text) { at_[i].before = text + at_[i].before; }
  void after(uint32_t i, const std::string& text) { at_[i].after += text; }
  bool dropped(uint32_t i) const {
    const auto found = at_.find(i);
    return found != at_.end() && found->second.dropped;
  }

 private:
  friend class Writer;
  struct Edit {
    bool dropped = false;
    bool replaced = false;
    std::string text, before, after;
  };
  std::unordered_map<uint32_t, Edit> at_;
};

enum class Target : uint8_t { cpp, cuda };

// The edited tokens as text whose lines are, by #line where they are not so anyhow, those of the
// Metal files. Comments and indentation stay.
//
// `columns`, if given, receives where each token is in its line of the text and in Metal's.
struct ColumnMark {
  uint32_t file = 0;
  uint32_t line = 0;
  uint32_t written = 0;
  uint32_t metal = 0;
};
std::string write_text(const Unit& unit, const Edits& edits, Target target,
                       std::vector<ColumnMark>* columns = nullptr);

// A part of it.
std::string write_range(const Unit& unit, const Edits& edits, Range range, Target target);

}  // namespace mlx_kd::msl
