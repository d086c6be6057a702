#include "mlx_kd/kernels/user/head.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <regex>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/user/expression.h"

namespace mlx_kd::kernels::user {
namespace {

const std::vector<std::string>& head_words() {
  static const std::vector<std::string> all = {
      "batch",  "body", "function",  "grain",  "grid",  "group",   "in",    "judge", "knob",
      "launch", "out",  "reference", "scalar", "sizes", "threads", "units", "where"};
  return all;
}

bool is_name_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines(1);
  for (const char c : text) {
    if (c == '\n')
      lines.emplace_back();
    else if (c != '\r')
      lines.back() += c;
  }
  return lines;
}

std::string place_of(const std::string& file, size_t line) {
  return file + ":" + std::to_string(line + 1);
}

// Whether an #ifndef of the name is among the lines before.
bool is_guarded(const std::vector<std::string>& lines, size_t at, const std::string& name) {
  const std::regex guard(R"(^\s*#\s*ifndef\s+)" + name + R"(\b.*)");
  const std::regex end(R"(^\s*#\s*endif\b.*)");
  for (size_t i = at; i-- > 0 && !std::regex_match(lines[i], end);)
    if (std::regex_match(lines[i], guard)) return true;
  return false;
}

void check_guard(const std::vector<std::string>& lines, size_t at, const std::string& name,
                 const std::string& place) {
  if (!is_guarded(lines, at, name))
    base::misuse("tune", place + ": " + name + " is defined without #ifndef " + name +
                             ", so it cannot be set: write #ifndef, #define, #endif");
}

// The default first, then the values in their order, each once.
std::vector<int64_t> with_default(int64_t first, const std::vector<int64_t>& values) {
  std::vector<int64_t> result = {first};
  for (const int64_t value : values)
    if (std::find(result.begin(), result.end(), value) == result.end()) result.push_back(value);
  return result;
}

void read_define(const std::vector<std::string>& lines, size_t i, const std::string& file,
                 Head& head) {
  static const std::regex knob(R"(^\s*#\s*define\s+(\w+)\s+(\S+)\s*//\s*knob:\s*(.*)$)");
  static const std::regex type(R"(^\s*#\s*define\s+(\w+)\s+(float|half|bfloat)\s*//\s*type\b.*$)");
  std::smatch found;
  if (std::regex_match(lines[i], found, type)) {
    check_guard(lines, i, found[1], place_of(file, i));
    head.type_macro = found[1];
  } else if (std::regex_match(lines[i], found, knob)) {
    const std::string place = place_of(file, i);
    check_guard(lines, i, found[1], place);
    const auto first = integers_of(found[2], place);
    head.macros.push_back({found[1], with_default(first.front(), integers_of(found[3], place))});
  }
}

void read_line(const std::vector<std::string>& lines, size_t i, const std::string& file,
               Head& head) {
  static const std::regex marked(R"(^\s*//\s*kd:\s*(\w*)\s*(.*)$)");
  std::smatch found;
  if (!std::regex_match(lines[i], found, marked)) return;
  const std::string word = found[1];
  const auto& known = head_words();
  if (std::find(known.begin(), known.end(), word) == known.end())
    base::misuse("tune", place_of(file, i) + ": '" + word + "' says nothing to kd: write " +
                             base::list_of(known));
  head.lines.push_back({word, trimmed(found[2]), place_of(file, i)});
}

// "from LEAST to MOST" behind a shape.
void read_range(const std::string& text, const HeadLine& line, UserPort& port) {
  static const std::regex range(R"(^from\s+(.+)\s+to\s+(.+)$)");
  std::smatch found;
  if (text.empty()) return;
  if (!std::regex_match(text, found, range))
    base::misuse("tune", line.place + ": '" + text + "' follows the shape of '" + port.name +
                             "': write for example from 0 to D - 1");
  port.least = trimmed(found[1]);
  port.most = trimmed(found[2]);
}

}  // namespace

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t");
  return first == text.npos ? "" : text.substr(first, last - first + 1);
}

std::vector<std::string> parts_of(const std::string& text, char separator) {
  std::vector<std::string> result(1);
  for (const char c : text) {
    if (c == separator)
      result.emplace_back();
    else
      result.back() += c;
  }
  for (std::string& part : result) part = trimmed(part);
  return result;
}

std::vector<int64_t> integers_of(const std::string& text, const std::string& place) {
  std::vector<int64_t> result;
  for (const std::string& part : parts_of(text)) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (part.empty() || error != std::errc() || end != part.data() + part.size())
      base::misuse("tune",
                   place + ": '" + part + "' is not a whole number: write values as 1, 2, 4");
    result.push_back(value);
  }
  return result;
}

UserPort port_of(const HeadLine& line) {
  static const std::regex form(R"(^(\w+)\s*(?::\s*(\w+))?\s*(\(.*\))(.*)$)");
  std::smatch found;
  if (!std::regex_match(line.rest, found, form))
    base::misuse("tune", line.place + ": '" + line.rest + "' is not an array: write for example " +
                             line.word + " x (rows, D)");
  UserPort port{found[1], found[2].matched ? found[2].str() : "", {}};
  // The bracket that closes the shape, not one of the range behind it.
  std::string rest = found[3].str() + found[4].str();
  int depth = 0;
  size_t end = 0;
  do depth += rest[end] == '(' ? 1 : rest[end] == ')' ? -1 : 0;
  while (++end < rest.size() && depth > 0);
  for (const Expression& axis : expressions_of(rest.substr(0, end)))
    port.shape.push_back(trimmed(axis.text()));
  if (port.shape.empty())
    base::misuse("tune", line.place + ": '" + port.name + "' has no axes: give at least one");
  read_range(trimmed(rest.substr(end)), line, port);
  return port;
}

std::vector<const HeadLine*> Head::all(const std::string& word) const {
  std::vector<const HeadLine*> result;
  for (const HeadLine& line : lines)
    if (line.word == word) result.push_back(&line);
  return result;
}

const HeadLine* Head::only(const std::string& word) const {
  const auto found = all(word);
  if (found.size() > 1)
    base::misuse("tune", found[1]->place + ": '" + word + "' is given twice, first in " +
                             found[0]->place + ": leave one");
  return found.empty() ? nullptr : found[0];
}

Head read_head(const std::string& text, const std::string& file) {
  Head head;
  const auto lines = lines_of(text);
  for (size_t i = 0; i < lines.size(); ++i) {
    read_define(lines, i, file, head);
    read_line(lines, i, file, head);
  }
  return head;
}

std::string without_comments(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.compare(i, 2, "//") == 0) {
      i = std::min(text.find('\n', i), text.size());
      result += i < text.size() ? "\n" : "";
    } else if (text.compare(i, 2, "/*") == 0) {
      const size_t end = std::min(text.find("*/", i + 2), text.size());
      result += ' ';
      for (; i < end; ++i)
        if (text[i] == '\n') result += '\n';
      ++i;
    } else {
      result += text[i];
    }
  }
  return result;
}

bool has_word(const std::string& text, const std::string& word) {
  for (size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
    const bool begins = at == 0 || !is_name_character(text[at - 1]);
    const size_t end = at + word.size();
    if (begins && (end == text.size() || !is_name_character(text[end]))) return true;
  }
  return false;
}

}  // namespace mlx_kd::kernels::user
