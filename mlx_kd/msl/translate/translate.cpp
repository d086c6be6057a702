#include "mlx_kd/msl/translate/translate.h"

#include <algorithm>

#include "mlx_kd/msl/parse/statements.h"
#include "mlx_kd/msl/rules/rules.h"
#include "mlx_kd/msl/translate/passes.h"

namespace mlx_kd::msl {
namespace {

// In CUDA the source lives in a namespace of its own: the global one has float4, min and uint.
constexpr const char* kCppHead = "#include \"kd_metal.h\"\n";
constexpr const char* kCudaHead =
    "// Translated from Metal by mlx-kd. Needs kd_metal.h and its parts (kd msl to-cuda "
    "--headers).\n"
    "// A block has one thread for each of a threadgroup; grid_x, grid_y, grid_z count threads.\n"
    "#include \"kd_metal.h\"\n\nnamespace metal {\nnamespace source {}\n"
    "using namespace source;\nnamespace source {\n";

struct Named {
  const Function* function;
  std::string arguments;
  Kernel kernel;
};

std::vector<Named> name_kernels(const Unit& unit, const CallGraph& calls) {
  std::vector<Named> named;
  const auto index = [&](const Function& one) {
    return static_cast<uint32_t>(&one - &unit.functions[0]);
  };
  for (const Function& one : unit.functions)
    if (one.kernel && one.definition && one.templates.empty())
      named.push_back({&one, "", describe_kernel(unit, one, {})});
  for (const Instantiation& one : unit.instantiations) {
    const Function* function = unit.definition_of(one.function);
    named.push_back({function, one.arguments, describe_kernel(unit, *function, one.values)});
    named.back().kernel.name = one.host_name;
    named.back().kernel.at = one.at;
  }
  for (Named& one : named) {
    one.kernel.symbol = symbol_of(one.kernel.name);
    one.kernel.meets = calls.meets(index(*one.function));
  }
  return named;
}

// Names of the source that are names of Metal's library too: its overloads join those of the
// source.
std::string shared_names(const Unit& unit) {
  static const std::set<std::string> library = {
      "abs",    "min",  "max",   "clamp", "exp",      "log",   "sqrt",   "rsqrt",     "sin", "cos",
      "tanh",   "pow",  "floor", "ceil",  "round",    "exp2",  "sign",   "dot",       "mix", "fma",
      "select", "step", "isnan", "isinf", "popcount", "fract", "length", "normalize", "any", "all"};
  std::set<std::string> used;
  std::string text;
  for (const Function& one : unit.functions)
    if (one.scope.empty() && (library.count(one.name) || is_exchange(one.name)) &&
        used.insert(one.name).second)
      text += "using metal::" + one.name + ";\n";
  return text;
}

using Splits = std::map<const Function*, Split>;

Splits split_kernels(const Unit& unit, const CallGraph& calls) {
  Splits found;
  for (const Function& one : unit.functions)
    if (auto split = split_at_barriers(unit, one, calls)) found.emplace(&one, std::move(*split));
  return found;
}

// In one line, so that all messages about it name the place in the Metal text.
std::string at_place(const Unit& unit, Position at, std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  std::string name;
  for (const char c : unit.sources->name(at.file))
    name += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return "#line " + std::to_string(at.line) + " \"" + name + "\"\n" + text + "\n";
}

bool switches_contraction_off(const Token& token) {
  const auto has = [&](std::string_view part) { return token.text.find(part) != token.text.npos; };
  if (token.kind != Kind::pragma) return false;
  return (has("contract") && has("off")) || (has("FP_CONTRACT") && has("OFF"));
}

// What the reader of the translation should know.
std::vector<std::string> notes(const Unit& unit, Target target) {
  std::vector<std::string> found;
  std::set<std::string> told;
  const auto add = [&](Position at, const std::string& text) {
    if (told.insert(text).second) found.push_back(unit.sources->describe(at) + ": " + text);
  };
  for (const Token& token : unit.tokens) {
    if (target == Target::cuda && token.is("thread_elements"))
      add(token.at,
          "thread_elements() relies on Apple's layout of a simdgroup matrix, which is kept");
    const bool other =
        token.kind == Kind::pragma && (token.text.find("exceptions") != token.text.npos ||
                                       token.text.find("eval_method") != token.text.npos);
    if (other) add(token.at, "#pragma " + std::string(token.text) + " is not honoured");
  }
  for (const GroupVariable& one : group_variables(unit))
    if (one.initialised)
      add(one.at, "the initial value of threadgroup variable '" + one.name + "' is ignored");
  for (const Attribute& one : unit.attributes)
    if (one.name.find("::") != std::string::npos) add(one.at, "[[" + one.name + "]] is ignored");
  return found;
}

// Macros for the prelude, in front of it.
std::string settings_text(const Unit& unit, const TranslateOptions& options, bool contraction) {
  static const std::set<std::string_view> beyond = {"erf", "erfc", "log1p", "expm1"};
  std::set<std::string> macros;
  for (const Function& one : unit.functions)
    if (!one.member && beyond.count(one.name)) macros.insert("KD_OWN_" + one.name);
  if (!options.bfloat_functions) macros.insert("KD_METAL_ALONE");
  if (!contraction) macros.insert("KD_NO_CONTRACTION");
  std::string text;
  for (const std::string& one : macros) text += "#define " + one + " 1\n";
  return text;
}

// Words that C++20 has and Metal leaves to names.
std::string renamed_words(const Unit& unit) {
  static const std::set<std::string_view> words = {"requires",  "concept",  "char8_t",
                                                   "co_await",  "co_yield", "co_return",
                                                   "consteval", "constinit"};
  std::set<std::string_view> used;
  for (const Token& token : unit.tokens)
    if (words.count(token.text)) used.insert(token.text);
  std::string text;
  for (const std::string_view one : used)
    text += "#define " + std::string(one) + " kd_" + std::string(one) + "\n";
  return text;
}

// What both targets write differently from Metal.
Edits edits_of(const Unit& unit, Target target, const TranslateOptions& options) {
  Edits edits;
  edit_literals(unit, edits);
  edit_swizzles(unit, edits);
  edit_widths(unit, edits);
  edit_ternaries(unit, edits);
  edit_braces(unit, edits);
  edit_qualifiers(unit, edits);
  edit_arrays(unit, edits);
  edit_variables(unit, target, options, edits);
  return edits;
}

std::string head_text(const Unit& unit, Target target, const TranslateOptions& options,
                      bool contraction) {
  return (target == Target::cuda && options.whole_lines ? "#define KD_WHOLE_LINES 1\n" : "") +
         settings_text(unit, options, contraction) +
         (target == Target::cpp ? kCppHead : kCudaHead + shared_names(unit)) + renamed_words(unit);
}

}  // namespace

Translation translate(const Unit& unit, Target target, const TranslateOptions& options) {
  require_rules(unit);
  const CallGraph calls(unit);
  Translation result;
  Edits edits = edits_of(unit, target, options);
  if (target == Target::cpp)
    result.sites = edit_sites(unit, edits);
  else
    edit_functions(unit, options, edits), edit_namespaces(unit, edits);
  for (const Token& token : unit.tokens)
    if (switches_contraction_off(token)) result.contraction = false;
  result.text = head_text(unit, target, options, result.contraction);
  if (target == Target::cpp)
    for (const Function& one : unit.functions)
      if (one.kernel) edits.before(one.head, "KD_KERNEL ");
  result.text += write_text(unit, edits, target, &result.columns);
  result.text += "#line 1 \"<entries>\"\n";
  const auto splits = target == Target::cpp ? split_kernels(unit, calls) : Splits();
  std::string split;
  for (const auto& [function, cut] : splits) split += split_text(unit, *function, cut, edits);
  for (Named& one : name_kernels(unit, calls)) {
    one.kernel.split = splits.count(one.function) > 0;
    result.kernels.push_back(one.kernel);
    if (!options.only.empty() && options.only != one.kernel.name) continue;
    if (one.kernel.split) split += split_entry_text(*one.function, one.arguments, one.kernel);
    if (target == Target::cpp)
      result.text +=
          at_place(unit, one.kernel.at, entry_text(unit, *one.function, one.arguments, one.kernel));
    else if (!one.arguments.empty())
      result.text += cuda_entry_text(unit, *one.function, one.arguments, one.kernel, options);
  }
  if (!split.empty()) result.text += "#if !defined(KD_NO_SPLIT)\n" + split + "#endif\n";
  if (target == Target::cuda) {
    result.text += "}  // namespace source\n}  // namespace metal\n";
  }
  result.notes = notes(unit, target);
  return result;
}

}  // namespace mlx_kd::msl
