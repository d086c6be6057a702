// A TOML file as lines of a head: keys are the words, with "in" and "out" as tables of arrays and
// "knobs" and "scalars" as tables of values.
#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/user/head.h"

#ifdef MLX_KD_TOML
#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>
#endif

namespace mlx_kd::kernels::user {

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
