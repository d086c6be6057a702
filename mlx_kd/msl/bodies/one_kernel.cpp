#include "mlx_kd/msl/bodies/one_kernel.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>

namespace mlx_kd::msl {
namespace {

bool is_word_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
}

// A text whose comments and literals are skipped: what closes a bracket, and which lines are
// directives.
class Skimmer {
 public:
  explicit Skimmer(const std::string& text) : text_(text) {}

  // Behind the comment or literal that begins at i; i where none does.
  size_t behind_aside(size_t i) const {
    if (text_.compare(i, 2, "//") == 0) return std::min(text_.find('\n', i), text_.size());
    if (text_.compare(i, 2, "/*") == 0)
      return std::min(text_.find("*/", i + 2), text_.size() - 2) + 2;
    if (text_[i] != '"' && text_[i] != '\'') return i;
    const char quote = text_[i++];
    while (i < text_.size() && text_[i] != quote) i += text_[i] == '\\' ? 2 : 1;
    return std::min(i + 1, text_.size());
  }

  size_t behind_blanks(size_t i) const {
    while (i < text_.size()) {
      const bool is_blank = std::isspace(static_cast<unsigned char>(text_[i]));
      const size_t next = is_blank ? i + 1 : text_[i] == '/' ? behind_aside(i) : i;
      if (next == i) break;
      i = next;
    }
    return i;
  }

  // Behind the macro that is used at i, with its arguments if it has any.
  size_t behind_use(size_t i) const {
    while (i < text_.size() && is_word_character(text_[i])) ++i;
    const size_t open = behind_blanks(i);
    if (open >= text_.size() || text_[open] != '(') return i;
    int depth = 0;
    for (i = open; i < text_.size();) {
      const size_t behind = behind_aside(i);
      if (behind != i) {
        i = behind;
        continue;
      }
      depth += text_[i] == '(' ? 1 : text_[i] == ')' ? -1 : 0;
      ++i;
      if (depth == 0) return i;
    }
    return i;
  }

  // Whether each bracket of the stretch has its partner in it and no line of it is a directive
  // other than a pragma.
  bool is_whole(size_t begin, size_t end) const {
    std::string open;
    for (size_t i = begin; i < end;) {
      const size_t behind = behind_aside(i);
      if (behind != i) {
        i = behind;
        continue;
      }
      const char c = text_[i];
      if (c == '#' && text_.compare(behind_blanks(i + 1), 6, "pragma") != 0) return false;
      if (c == '(' || c == '[' || c == '{') open += c;
      if (c == ')' || c == ']' || c == '}') {
        if (open.empty() || open.back() != (c == ')' ? '(' : c == ']' ? '[' : '{')) return false;
        open.pop_back();
      }
      ++i;
    }
    return open.empty();
  }

 private:
  const std::string& text_;
};

class Cuts {
 public:
  Cuts(const std::string& text, const Unit& unit) : text_(text), unit_(unit), skim_(text) {
    lines_ = {0};
    for (size_t i = 0; i < text.size(); ++i)
      if (text[i] == '\n') lines_.push_back(i + 1);
  }

  // Neighbours that one use of a macro made are cut together.
  std::vector<TextEdit> of(std::vector<Range> ranges) const {
    constexpr size_t kMostTogether = 64;
    std::sort(ranges.begin(), ranges.end(),
              [](const Range& a, const Range& b) { return a.first < b.first; });
    std::vector<TextEdit> result;
    for (size_t i = 0; i < ranges.size(); ++i) {
      Range run = ranges[i];
      for (size_t j = i; j < std::min(ranges.size(), i + kMostTogether); ++j) {
        if (j > i && ranges[j].first != run.last) break;
        run.last = ranges[j].last;
        if (const auto cut = stretch(run)) {
          result.push_back(*cut);
          i = j;
          break;
        }
      }
    }
    return result;
  }

 private:
  size_t place(const Token& token) const { return lines_[token.at.line - 1] + token.at.column - 1; }
  bool is_here(const Token& token) const { return token.at.file == unit_.file; }

  std::optional<TextEdit> stretch(Range run) const {
    const Token& last = unit_.tokens[run.last - 1];
    if (!is_here(unit_.tokens[run.first]) || !is_here(last)) return std::nullopt;
    const size_t begin = place(unit_.tokens[run.first]);
    const bool is_written = text_.compare(place(last), last.text.size(), last.text) == 0;
    const size_t end = is_written ? place(last) + last.text.size() : skim_.behind_use(place(last));
    if (end <= begin || !stands_alone(run, begin, end) || !skim_.is_whole(begin, end))
      return std::nullopt;
    TextEdit result{begin, end, ""};
    for (size_t i = begin; i < end; ++i)
      if (text_[i] == '\n') result.text += '\n';
    return result;
  }

  // Whether no token in front of it or behind it comes from the same stretch.
  bool stands_alone(Range run, size_t begin, size_t end) const {
    if (run.first > 0) {
      const Token& before = unit_.tokens[run.first - 1];
      if (is_here(before) && place(before) >= begin) return false;
    }
    if (run.last < unit_.tokens.size()) {
      const Token& after = unit_.tokens[run.last];
      if (is_here(after) && place(after) < end) return false;
    }
    return true;
  }

  const std::string& text_;
  const Unit& unit_;
  const Skimmer skim_;
  std::vector<size_t> lines_;  // where each begins
};

// What can be left out by its name.
std::multimap<std::string_view, Range> named_parts(const Unit& unit) {
  std::multimap<std::string_view, Range> result;
  for (const Function& one : unit.functions)
    if (!one.member) result.emplace(one.name, one.tokens);
  for (const Global& one : unit.globals)
    result.emplace(one.name, Range{std::min(one.start, one.tokens.first), one.tokens.last});
  return result;
}

bool is_of_textures(const Token& token) {
  if (!is_word(token)) return false;
  for (const char* kind : {"texture1d", "texture2d", "texture3d", "texturecube", "texture_buffer",
                           "depth2d", "depthcube"})
    if (token.text.starts_with(kind)) return true;
  return token.is("sampler");
}

// Functions and globals with a texture or a sampler somewhere, which the kernel does not use.
std::vector<Range> unused_of_textures(const Unit& unit, const Function& kernel) {
  const std::set<std::string_view> used = words_used_by(unit, kernel);
  std::vector<Range> result;
  for (const auto& [name, range] : named_parts(unit)) {
    const auto begin = unit.tokens.begin();
    if (!used.contains(name) &&
        std::any_of(begin + range.first, begin + range.last, is_of_textures))
      result.push_back(range);
  }
  return result;
}

}  // namespace

std::vector<TextEdit> cuts_around(const std::string& text, const Unit& unit, const Function& kernel,
                                  const Instantiation* wanted) {
  std::vector<Range> others;
  for (const Range& range : unused_of_textures(unit, kernel)) others.push_back(range);
  const auto is_known = [&](Range range) {
    return std::any_of(others.begin(), others.end(),
                       [&](const Range& one) { return one.first == range.first; });
  };
  for (const Function& one : unit.functions)
    if (one.kernel && one.name != kernel.name && !is_known(one.tokens))
      others.push_back(one.tokens);
  for (const Instantiation& one : unit.instantiations)
    if (&one != wanted) others.push_back(one.tokens);
  return Cuts(text, unit).of(std::move(others));
}

std::set<std::string_view> words_used_by(const Unit& unit, const Function& kernel) {
  const auto parts = named_parts(unit);
  std::vector<bool> is_part(unit.tokens.size(), false);
  const auto mark = [&](Range range) {
    for (uint32_t i = range.first; i < range.last; ++i) is_part[i] = true;
  };
  for (const auto& [name, range] : parts) mark(range);
  for (const Instantiation& one : unit.instantiations) mark(one.tokens);
  std::set<std::string_view> result;
  std::vector<std::string_view> open;
  const auto use = [&](uint32_t i) {
    if (is_word(unit.tokens[i]) && result.insert(unit.tokens[i].text).second)
      open.push_back(unit.tokens[i].text);
  };
  for (uint32_t i = 0; i < unit.tokens.size(); ++i)
    if (!is_part[i]) use(i);
  for (uint32_t i = kernel.tokens.first; i < kernel.tokens.last; ++i) use(i);
  while (!open.empty()) {
    const auto [first, last] = parts.equal_range(open.back());
    open.pop_back();
    for (auto one = first; one != last; ++one)
      for (uint32_t i = one->second.first; i < one->second.last; ++i) use(i);
  }
  return result;
}

}  // namespace mlx_kd::msl
