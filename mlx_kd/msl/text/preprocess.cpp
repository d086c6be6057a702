#include "mlx_kd/msl/text/preprocess.h"

#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/msl/prelude.h"
#include "mlx_kd/msl/text/condition.h"
#include "mlx_kd/msl/text/macro.h"

namespace mlx_kd::msl {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxIncludeDepth = 64;
constexpr size_t kMaxTokens = size_t{4} << 20;

// <metal_stdlib>, <metal_math>, <simd/simd.h>: the names that are always there.
bool is_standard(std::string_view name) {
  return name.substr(0, 6) == "metal_" || name.substr(0, 6) == "metal/" ||
         name.substr(0, 5) == "simd/" || name == "TargetConditionals.h";
}

struct Condition {
  Position at;
  bool taking = false;  // this branch is read
  bool taken = false;   // a branch of this #if was read
  bool seen_else = false;
};

class Preprocessor {
 public:
  Preprocessor(SourceSet& sources, const PreprocessOptions& options)
      : sources_(sources), options_(options), expander_(sources, macros_) {
    predefine();
  }

  Tokens run(uint32_t file) {
    read(file, 0);
    return std::move(out_);
  }

 private:
  void predefine() {
    std::string text =
        "#define __METAL__ 1\n#define __METAL_VERSION__ 320\n#define __METAL_MACOS__ 1\n"
        "#define METAL_FUNC inline\n#define assert(condition) ((void)(condition))\n#define "
        "__HAVE_BFLOAT__ 1\n"
        "#define __cpp_variable_templates 201304\n"
        "#define __METAL_FAST_MATH__ 1\n#define __METAL_PRECISE_MATH__ 0\n"
        "#define __METAL_MAYBE_FAST_MATH__ 0\n";
    for (const auto& [name, value] : options_.defines)
      text += "#define " + name + " " + value + "\n";
    read(sources_.add("<defines>", text), 0);
  }

  void read(uint32_t file, int depth) {
    const Tokens tokens = lex(sources_, file);
    const size_t outer = conditions_.size();
    for (size_t i = 0; i < tokens.size();) {
      const size_t start = i;
      if (tokens[i].is("#") && tokens[i].line_start) {
        do ++i;
        while (i < tokens.size() && !tokens[i].line_start);
        directive(Tokens(tokens.begin() + start, tokens.begin() + i), depth);
      } else {
        do ++i;
        while (i < tokens.size() && !(tokens[i].is("#") && tokens[i].line_start));
        if (taking()) emit(Tokens(tokens.begin() + start, tokens.begin() + i));
      }
    }
    if (conditions_.size() > outer)
      refuse(sources_, conditions_.back().at, "this condition has no end: add #endif");
  }

  bool taking() const { return conditions_.empty() || conditions_.back().taking; }

  void emit(const Tokens& lines) {
    Tokens made = without_pragma_operators(expander_.expand(lines));
    if (out_.size() + made.size() > kMaxTokens)
      refuse(sources_, lines.front().at, "the source has more than 4 million tokens");
    out_.insert(out_.end(), made.begin(), made.end());
  }

  // Loops that are unrolled, and how floating-point numbers are rounded.
  static bool is_kept(std::string_view pragma) {
    for (const std::string_view part :
         {"unroll", "contract", "FP_CONTRACT", "eval_method", "exceptions"})
      if (pragma.find(part) != pragma.npos) return true;
    return false;
  }

  // _Pragma("clang loop unroll(full)") becomes a pragma token, any other _Pragma nothing.
  Tokens without_pragma_operators(Tokens made) {
    Tokens kept;
    kept.reserve(made.size());
    for (size_t i = 0; i < made.size(); ++i) {
      if (!made[i].is("_Pragma") || i + 3 >= made.size()) {
        kept.push_back(made[i]);
        continue;
      }
      Token token = made[i + 2];
      i += 3;
      if (token.kind != Kind::text || !is_kept(token.text)) continue;
      token.kind = Kind::pragma;
      token.text = token.text.substr(1, token.text.size() - 2);
      kept.push_back(token);
    }
    return kept;
  }

  void directive(const Tokens& line, int depth) {
    if (line.size() == 1) return;
    const std::string_view name = line[1].text;
    const Tokens rest(line.begin() + 2, line.end());
    if (conditional(name, line, rest) || !taking()) return;
    if (name == "define")
      define(line, rest);
    else if (name == "undef")
      macros_.erase(word(line, rest).text);
    else if (name == "include")
      include(line, rest, depth);
    else if (name == "pragma")
      pragma(line, rest);
    else if (name == "error")
      refuse(sources_, line[0].at, "#error " + spell(rest.data(), rest.data() + rest.size()));
    else if (name != "line" && name != "warning")
      refuse(sources_, line[1].at, "'#" + std::string(name) + "' is not a directive");
  }

  const Token& word(const Tokens& line, const Tokens& rest) {
    if (rest.empty() || rest[0].kind != Kind::word)
      refuse(sources_, line[0].at, "#" + std::string(line[1].text) + " needs a name");
    return rest[0];
  }

  // The directives that open, turn and close conditions; false for any other.
  bool conditional(std::string_view name, const Tokens& line, const Tokens& rest) {
    if (name == "if" || name == "ifdef" || name == "ifndef") {
      const bool outer = taking();
      const bool holds = outer && test(name, line, rest);
      conditions_.push_back({line[0].at, holds, holds || !outer, false});
      return true;
    }
    if (name != "elif" && name != "else" && name != "endif") return false;
    if (conditions_.empty()) refuse(sources_, line[0].at, "#" + std::string(name) + " without #if");
    Condition& condition = conditions_.back();
    if (name == "endif") return conditions_.pop_back(), true;
    if (condition.seen_else) refuse(sources_, line[0].at, "#" + std::string(name) + " after #else");
    condition.seen_else = name == "else";
    condition.taking = !condition.taken && (name == "else" || test("if", line, rest));
    condition.taken = condition.taken || condition.taking;
    return true;
  }

  bool test(std::string_view name, const Tokens& line, const Tokens& rest) {
    if (name != "if") return (macros_.count(word(line, rest).text) > 0) == (name == "ifdef");
    Tokens plain;
    for (size_t i = 0; i < rest.size(); ++i) {
      if (!rest[i].is("defined") && !rest[i].is("__has_include")) {
        plain.push_back(rest[i]);
        continue;
      }
      Token value = rest[i];
      value.kind = Kind::number;
      value.text = rest[i].is("defined") ? defined(rest, i) : has_include(rest, i);
      plain.push_back(value);
    }
    return condition_holds(sources_, expander_.expand(plain), line[0].at);
  }

  // The token at `i` is the word `defined`; moves i to the last token of "defined X" or
  // "defined(X)".
  std::string_view defined(const Tokens& rest, size_t& i) {
    const bool bracket = i + 1 < rest.size() && rest[i + 1].is("(");
    const size_t at = i + (bracket ? 2 : 1);
    if (at >= rest.size() || rest[at].kind != Kind::word)
      refuse(sources_, rest[i].at, "'defined' needs a name");
    i = at + (bracket ? 1 : 0);
    return macros_.count(rest[at].text) ? "1" : "0";
  }

  std::string_view has_include(const Tokens& rest, size_t& i) {
    std::string name;
    const Position at = rest[i].at;
    for (i += 2; i < rest.size() && !rest[i].is(")"); ++i) name += rest[i].text;
    if (name.size() < 3) refuse(sources_, at, "__has_include needs a file");
    name = name.substr(1, name.size() - 2);
    return is_standard(name) || !find(name, at).empty() ? "1" : "0";
  }

  void define(const Tokens& line, const Tokens& rest) {
    const Token& name = word(line, rest);
    Macro macro;
    size_t i = 1;
    if (i < rest.size() && rest[i].is("(") && rest[i].before.empty()) {
      macro.function = true;
      i = parameters(rest, macro);
    }
    macro.body.assign(rest.begin() + static_cast<long>(i), rest.end());
    macros_[name.text] = std::move(macro);
  }

  // Returns the index behind the closing bracket.
  size_t parameters(const Tokens& rest, Macro& macro) {
    size_t i = 2;
    for (; i < rest.size() && !rest[i].is(")"); ++i) {
      if (rest[i].is(",")) continue;
      if (rest[i].is("...")) {
        macro.variadic = true;
        macro.parameters.push_back("__VA_ARGS__");
      } else if (rest[i].kind == Kind::word && !macro.variadic) {
        macro.parameters.push_back(rest[i].text);
      } else {
        refuse(sources_, rest[i].at, "this is no parameter of a macro");
      }
    }
    if (i == rest.size()) refuse(sources_, rest[0].at, "the macro's parameters have no end");
    return i + 1;
  }

  void include(const Tokens& line, const Tokens& rest, int depth) {
    std::string name;
    for (const Token& token : rest) name += std::string(token.text);
    if (rest.empty() || name.size() < 3 || (name[0] != '"' && name[0] != '<'))
      refuse(sources_, line[0].at, "#include needs \"file\" or <file>");
    const bool angled = name[0] == '<';
    name = name.substr(1, name.find(angled ? '>' : '"', 1) - 1);
    if (is_standard(name)) return;
    if (name == "mlx_utils" || name == "kk_utils")
      return read(sources_.add("<" + name + ">", prelude().at(name + ".metal")), depth + 1);
    if (const auto known = options_.texts.find(name); known != options_.texts.end())
      return read(sources_.add(name, known->second), depth + 1);
    if (depth + 1 > kMaxIncludeDepth)
      refuse(sources_, line[0].at, "includes nested deeper than 64: does the file include itself?");
    const fs::path path = find(name, line[0].at);
    if (path.empty()) missing(rest[0].at, name, angled);
    const std::string key = fs::weakly_canonical(path).string();
    if (once_.count(key)) return;
    const uint32_t file =
        sources_.add(path.string(), base::read_file(path, "msl", kMaxSourceBytes));
    keys_[file] = key;
    read(file, depth + 1);
  }

  [[noreturn]] void missing(Position at, const std::string& name, bool angled) {
    static const std::set<std::string> library = {
        "algorithm", "array", "atomic", "cmath",  "cstddef", "cstdint", "cstdio",  "iostream",
        "limits",    "map",   "memory", "math.h", "stdio.h", "string",  "utility", "vector"};
    if (angled && library.count(name))
      refuse(sources_, at, "Metal has no C++ standard library: drop <" + name + ">", "1.5.4");
    if (name.rfind("MetalPerformancePrimitives/", 0) == 0)
      refuse(sources_, at, "the tensor operations of Metal 4 (" + name + ") are not supported");
    refuse(sources_, at, "the include '" + name + "' is in none of the folders: name its folder");
  }

  // Next to the including file, then in the folders; empty if it is in none.
  fs::path find(const std::string& name, Position at) const {
    std::vector<fs::path> folders = {fs::path(sources_.name(at.file)).parent_path()};
    folders.insert(folders.end(), options_.include_folders.begin(), options_.include_folders.end());
    std::error_code ignored;
    for (const fs::path& folder : folders)
      if (fs::is_regular_file(folder / name, ignored)) return folder / name;
    return {};
  }

  void pragma(const Tokens& line, const Tokens& rest) {
    if (rest.empty()) return;
    if (rest[0].is("once") && keys_.count(line[0].at.file)) once_.insert(keys_[line[0].at.file]);
    const std::string text = spell(rest.data(), rest.data() + rest.size());
    if (!is_kept(text)) return;
    Token token = line[0];
    token.kind = Kind::pragma;
    token.text = sources_.keep(text);
    out_.push_back(token);
  }

  SourceSet& sources_;
  const PreprocessOptions& options_;
  Macros macros_;
  Expander expander_;
  std::vector<Condition> conditions_;
  std::set<std::string> once_;
  std::map<uint32_t, std::string> keys_;
  Tokens out_;
};

}  // namespace

Tokens preprocess(SourceSet& sources, uint32_t file, const PreprocessOptions& options) {
  return Preprocessor(sources, options).run(file);
}

}  // namespace mlx_kd::msl
