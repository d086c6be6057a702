#include <map>

#include "mlx_kd/msl/parse/statements.h"
#include "mlx_kd/msl/translate/passes.h"

namespace mlx_kd::msl {
namespace {

// Whether the type around "constant" at i is const in words already.
bool const_nearby(const Unit& unit, uint32_t i) {
  for (uint32_t k = i; k-- > 0 && i - k <= 3 && unit.tokens[k].kind == Kind::word;)
    if (is_any(unit.tokens[k], {"const", "constexpr"})) return true;
  for (uint32_t k = i + 1; k < unit.tokens.size() && k < i + 30; ++k) {
    if (is_any(unit.tokens[k], {"const", "constexpr"})) return true;
    if (is_any(unit.tokens[k], {"*", "&", ",", ";", ")", "=", "[", "("})) return false;
  }
  return false;
}

std::string without_spaces(const Unit& unit, Range range) {
  std::string text;
  for (uint32_t i = range.first; i < range.last; ++i)
    if (space_named(unit.tokens[i].text) == Space::none)
      text += std::string(unit.tokens[i].text) + " ";
  return text;
}

std::string signature(const Unit& unit, const Function& function) {
  std::string text = function.scope + function.name + "<";
  for (const TemplateParameter& one : function.templates) text += one.kind + ",";
  text += ">(";
  std::map<std::string, std::string> names;
  for (const Parameter& one : function.parameters) {
    text += one.type + (one.is_const ? " const" : "") + (one.pointer ? "*" : "");
    text += std::string(one.reference ? "&" : "") + ",";
  }
  const uint32_t close = unit.partner[function.open];
  const uint32_t end = function.definition ? function.body.first : function.tokens.last;
  for (uint32_t i = close + 1; i < end; ++i)
    if (unit.tokens[i].is("const")) text += ")const";
  return text;
}

// Overloads that C++ cannot tell apart once the address spaces are gone: the first one stays.
void edit_overloads(const Unit& unit, Edits& edits) {
  std::map<std::string, const Function*> seen;
  for (const Function& one : unit.functions) {
    if (!one.definition || one.kernel) continue;
    const auto [place, fresh] = seen.emplace(signature(unit, one), &one);
    if (fresh) continue;
    if (without_spaces(unit, one.body) != without_spaces(unit, place->second->body)) {
      // Constraints on template parameters can still tell them apart.
      if (!one.templates.empty()) continue;
      refuse(*unit.sources, one.at,
             "this overload of '" + one.name + "' differs from that at " +
                 unit.sources->describe(place->second->at) +
                 " in address space and in its body, which is not supported: give it a name of its "
                 "own");
    }
    const uint32_t same = without_spaces(unit, {one.tokens.first, one.open}) ==
                          without_spaces(unit, {place->second->tokens.first, place->second->open});
    if (same || one.templates.empty()) edits.drop(one.tokens);
  }
}

std::string word_of(const GroupVariable& one) {
  return "kd_" + one.name + "_type";
}

// threadgroup float a[4]; -> typedef float kd_a_type[4]; kd_a_type& a = kd_shared<kd_a_type>(0);
// `bytes`: what this variable and those before it in its function take.
void edit_group_variable(const Unit& unit, const GroupVariable& one, size_t slot,
                         const std::string& bytes, Edits& edits) {
  for (uint32_t i = one.statement.first; i < one.type.last; ++i) {
    if (is_any(unit.tokens[i], {"static", "alignas", "const"})) edits.drop(i);
    if (unit.tokens[i].is("alignas")) edits.drop({i, unit.partner[i + 1] + 1});
  }
  edits.drop(one.word);
  const uint32_t name = one.bounds.first - 1;
  edits.replace(name, word_of(one));
  edits.after(one.statement.last - 1, " " + word_of(one) + "& " + one.name + " = kd_shared<" +
                                          word_of(one) + ">(" + std::to_string(slot) + ");");
  edits.after(one.statement.last - 1, " static_assert(" + bytes +
                                          " <= 32768, \"threadgroup memory beyond the 32 KiB that "
                                          "Metal allows\");");
}

void edit_global(const Unit& unit, const Global& one, Target target, Edits& edits) {
  uint32_t head = one.tokens.first;
  for (uint32_t i = head; i < one.name_at; ++i)
    if (is_any(unit.tokens[i], {"constant", "const", "constexpr", "static"})) edits.drop(i);
  const bool device = target == Target::cuda && one.array;
  edits.before(head, device ? "static __device__ constexpr " : "static constexpr ");
}

void edit_function_constant(const Unit& unit, const Global& one, const TranslateOptions& options,
                            Edits& edits) {
  edits.drop(one.tokens);
  const auto value = options.function_constants.find(*one.function_constant);
  const bool given = value != options.function_constants.end();
  edits.before(one.tokens.first, "static constexpr " + one.type + " " + one.name + " = " +
                                     (given ? value->second : one.type + "()") + ";");
  for (uint32_t i = 0; i + 2 < unit.tokens.size(); ++i) {
    if (!unit.tokens[i].is("is_function_constant_defined") || !unit.tokens[i + 2].is(one.name))
      continue;
    edits.drop({i + 1, unit.partner[i + 1] + 1});
    edits.replace(i, given ? "true" : "false");
  }
}

}  // namespace

void edit_qualifiers(const Unit& unit, Edits& edits) {
  for (const Attribute& one : unit.attributes) edits.drop(one.tokens);
  for (uint32_t i = 0; i < unit.tokens.size(); ++i) {
    const Token& token = unit.tokens[i];
    if (token.kind != Kind::word) continue;
    if (is_any(token, {"device", "thread", "threadgroup"})) edits.drop(i);
    if (!token.is("constant")) continue;
    if (const_nearby(unit, i))
      edits.drop(i);
    else
      edits.replace(i, "const");
  }
  for (const Function& one : unit.functions)
    for (uint32_t i = one.head; i < one.name_at; ++i)
      if (unit.tokens[i].is("kernel") && edits.dropped(i) == false) edits.drop(i);
  for (const Instantiation& one : unit.instantiations) edits.drop(one.tokens);
  edit_overloads(unit, edits);
}

void edit_variables(const Unit& unit, Target target, const TranslateOptions& options,
                    Edits& edits) {
  size_t slot = 0;
  uint32_t statement = UINT32_MAX, function = UINT32_MAX;
  std::string bytes;  // of the variables at the top level of the function
  for (const GroupVariable& one : group_variables(unit)) {
    if (one.function != function) bytes = "0";
    function = one.function;
    const std::string more = bytes + " + sizeof(" + word_of(one) + ")";
    if (one.outermost) bytes = more;
    if (target == Target::cuda) {
      edits.replace(one.word, "__shared__");
      continue;
    }
    if (one.statement.first != statement) edits.before(one.statement.first, "typedef ");
    statement = one.statement.first;
    edit_group_variable(unit, one, slot++, more, edits);
  }
  uint32_t last = UINT32_MAX;
  for (const Global& one : unit.globals) {
    if (one.function_constant) {
      edit_function_constant(unit, one, options, edits);
    } else if (one.space == Space::constant && one.tokens.first != last) {
      edit_global(unit, one, target, edits);
      last = one.tokens.first;
    }
  }
}

}  // namespace mlx_kd::msl
