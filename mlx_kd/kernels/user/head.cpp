#include "mlx_kd/kernels/user/head.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <regex>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/user/expression.h"

#ifdef MLX_KD_TOML
#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>
#endif

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

void take_section(const std::string& function, const std::string& file, Head& head) {
  const auto named = head.all("function");
  if (named.size() < 2) return;
  std::vector<std::string> names;
  for (const HeadLine* line : named) names.push_back(line->rest);
  if (function.empty())
    base::misuse("tune",
                 file + " describes the kernels " + base::list_of(names) + ": give one with --fn");
  std::string section;
  std::vector<HeadLine> taken;
  for (const HeadLine& line : head.lines) {
    if (line.word == "function") section = line.rest;
    if (section.empty() || section == function) taken.push_back(line);
  }
  head.lines = std::move(taken);
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

bool is_mentioned(const std::string& code, const std::string& macro) {
  std::string uses;
  for (const std::string& line : parts_of(code, '\n'))
    if (!line.starts_with("#ifndef " + macro) && !line.starts_with("#define " + macro + " "))
      uses += line + "\n";
  return has_word(uses, macro);
}

// A TOML file as lines of a head: keys are the words, with "in" and "out" as tables of arrays and
// "knobs" and "scalars" as tables of values.
#ifdef MLX_KD_TOML
namespace {

class TomlReader {
 public:
  TomlReader(const std::string& file, Head& head) : file_(file), head_(head) {}

  void read(const toml::table& table) {
    for (const auto& [key, value] : table) {
      const std::string word(key.str());
      if (value.is_table() && (word == "in" || word == "out"))
        each(*value.as_table(), word,
             [](const std::string& name, const std::string& text) { return name + " " + text; });
      else if (value.is_table() && word == "knobs")
        each(*value.as_table(), "knob", joined);
      else if (value.is_table() && word == "scalars")
        each(*value.as_table(), "scalar", joined);
      else if (value.is_array() && word == "where")
        for (const auto& one : *value.as_array()) add("where", text_of(one), one);
      else
        add(checked(word, value), text_of(value), value);
    }
  }

 private:
  static std::string joined(const std::string& name, const std::string& text) {
    return name + " " + text;
  }

  [[noreturn]] void refuse(const toml::node& at, const std::string& why) const {
    base::misuse("tune", place(at) + ": " + why);
  }

  std::string place(const toml::node& at) const {
    return file_ + ":" + std::to_string(at.source().begin.line);
  }

  std::string checked(const std::string& word, const toml::node& at) const {
    static const std::vector<std::string> known = {"batch",   "function", "grain",     "grid",
                                                   "group",   "judge",    "reference", "sizes",
                                                   "threads", "units",    "where"};
    for (const std::string& one : known)
      if (one == word) return word;
    refuse(at, "'" + word + "' says nothing to kd: write in, out, knobs, scalars or " +
                   base::list_of(known));
  }

  // "(rows, D)", 1e-5 or [64, 128] as the head writes them.
  std::string text_of(const toml::node& node) const {
    if (const auto text = node.value_exact<std::string>()) return *text;
    if (const auto whole = node.value_exact<int64_t>()) return std::to_string(*whole);
    if (const auto real = node.value_exact<double>()) {
      char digits[32];
      std::snprintf(digits, sizeof digits, "%.17g", *real);
      return digits;
    }
    const toml::array* list = node.as_array();
    if (!list) refuse(node, "a text, a number or a list of them is expected");
    std::string text;
    for (const auto& one : *list) text += (text.empty() ? "" : ", ") + text_of(one);
    return text;
  }

  template <class Make>
  void each(const toml::table& table, const std::string& word, const Make& make) {
    for (const auto& [name, value] : table)
      add(word, make(std::string(name.str()), text_of(value)), value);
  }

  void add(const std::string& word, const std::string& rest, const toml::node& at) {
    head_.lines.push_back({word, rest, place(at)});
  }

  const std::string& file_;
  Head& head_;
};

}  // namespace

void add_toml(const std::string& text, const std::string& file, Head& head) {
  try {
    TomlReader(file, head).read(toml::parse(text, file));
  } catch (const toml::parse_error& error) {
    base::misuse("tune", file + ":" + std::to_string(error.source().begin.line) + ": " +
                             std::string(error.description()));
  }
}
#else
void add_toml(const std::string&, const std::string& file, Head&) {
  base::misuse("tune",
               file +
                   " cannot be read: this kd was built without toml++; install "
                   "libtomlplusplus-dev and build it again, or describe the kernel in its head");
}
#endif

}  // namespace mlx_kd::kernels::user
