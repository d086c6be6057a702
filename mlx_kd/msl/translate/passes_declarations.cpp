#include <map>
#include <set>

#include "mlx_kd/msl/parse/calls.h"
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

// What follows a function's parameters: its body, a constructor's initialisers, "= default;".
Range rest_of(const Unit& unit, const Function& one) {
  return {unit.partner[one.open] + 1, one.tokens.last};
}

// Overloads that C++ cannot tell apart once the address spaces are gone: the first one stays.
void edit_overloads(const Unit& unit, Edits& edits) {
  std::map<std::string, const Function*> seen;
  for (const Function& one : unit.functions) {
    if (!(one.definition || (one.given && one.member)) || one.kernel || one.specialised) continue;
    const auto [place, fresh] = seen.emplace(signature(unit, one), &one);
    if (fresh) continue;
    if (without_spaces(unit, rest_of(unit, one)) !=
        without_spaces(unit, rest_of(unit, *place->second))) {
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

// pair() = default; of a struct that has no other constructor: C++20 would not take it for an
// aggregate.
void edit_constructors(const Unit& unit, Edits& edits) {
  std::set<std::string> others;
  const auto constructs = [](const Function& one) {
    const std::string end = one.name + "::";
    const size_t angle = one.scope.rfind('<');
    const std::string scope = one.scope.substr(0, angle) + (angle == one.scope.npos ? "" : "::");
    return one.member && scope.size() >= end.size() &&
           scope.compare(scope.size() - end.size(), end.size(), end) == 0;
  };
  for (const Function& one : unit.functions)
    if (constructs(one) && !(one.given && one.parameters.empty())) others.insert(one.scope);
  for (const Function& one : unit.functions) {
    const bool plain = one.given && one.parameters.empty() && constructs(one);
    if (plain && unit.tokens[one.tokens.last - 2].is("default") && !others.count(one.scope))
      edits.drop(one.tokens);
  }
}

// C++ has no specialisation of a member within its class: an overload does the same there.
void edit_members(const Unit& unit, Edits& edits) {
  for (const Function& one : unit.functions) {
    if (one.member && !one.specialised && unit.tokens[one.name_at + 1].is("<"))
      edits.drop({one.name_at + 1, one.open});  // pair<T>() {}
    if (!one.member || !one.specialised || unit.tokens[one.name_at - 1].is("::")) continue;
    edits.drop({one.tokens.first, one.head});
    if (!unit.tokens[one.name_at].is("operator")) edits.drop({one.name_at + 1, one.open});
  }
}

// A half goes to an overload of float before one of a class; C++ sees two conversions by classes.
void edit_promotions(const Unit& unit, Edits& edits) {
  std::map<std::string, std::set<std::string>> taken;  // by name: the types of single parameters
  const auto alone = [](const Function& one) {
    return !one.member && !one.kernel && !one.specialised && one.templates.empty() &&
           one.parameters.size() == 1 && !one.parameters[0].pointer && !one.parameters[0].reference;
  };
  for (const Function& one : unit.functions)
    if (alone(one)) taken[one.scope + one.name].insert(one.parameters[0].type);
  for (const Function& one : unit.functions) {
    if (!alone(one) || !one.definition || one.parameters[0].type != "float") continue;
    const auto& types = taken[one.scope + one.name];
    if (types.size() < 2 || types.count("half") || one.name.rfind("operator", 0) == 0) continue;
    const bool exchange = is_exchange(one.name);
    if (exchange) continue;
    edits.after(one.tokens.last - 1, " KD_FN " + one.result + " " + one.name +
                                         "(half kd_a) { return " + one.name + "(float(kd_a)); }");
  }
}

// The same of class templates: pointer_element<device T*>, pointer_element<threadgroup T*>.
void edit_specialisations(const Unit& unit, Edits& edits) {
  std::set<std::string> seen;
  for (const Range& one : unit.specialised)
    if (!seen.insert(without_spaces(unit, one)).second) edits.drop(one);
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
  edits.drop(one.value);
  const uint32_t name = one.bounds.first - 1;
  edits.replace(name, word_of(one));
  edits.after(one.statement.last - 1, " " + word_of(one) + "& " + one.name + " = kd_shared<" +
                                          word_of(one) + ">(" + std::to_string(slot) + ");");
  // (How much a template takes is known where a kernel of it runs.)
  if (unit.functions[one.function].templates.empty())
    edits.after(one.statement.last - 1,
                " static_assert(" + bytes +
                    " <= 32768, \"threadgroup memory beyond the 32 KiB that "
                    "Metal allows\");");
}

void edit_global(const Unit& unit, const Global& one, Target target, Edits& edits) {
  uint32_t head = one.tokens.first;
  if (one.is_member && !one.initialised) return edits.drop({one.start, one.tokens.last});
  for (uint32_t i = head; i < one.name_at; ++i)
    if (is_any(unit.tokens[i], {"constant", "const", "constexpr", "static"})) edits.drop(i);
  if (one.is_member) return edits.before(head, one.is_constexpr ? "constexpr " : "const ");
  if (one.is_template) return edits.before(head, "constexpr ");
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

void edit_arrays(const Unit& unit, Edits& edits) {
  for (const Range& type : unit.held) {
    edits.before(type.first, "kd_field<");
    edits.after(type.last - 1, ">");
  }
  for (const Function& function : unit.functions)
    for (const Parameter& one : function.parameters) {
      if (!one.reference || !unit.arrays.count(one.type)) continue;
      for (uint32_t i = one.tokens.first; i < one.tokens.last; ++i) {
        if (is_any(unit.tokens[i], {"&", "const"})) edits.drop(i);
        if (unit.tokens[i].is(one.type))
          edits.replace(
              i, "kd_elements<" + std::string(one.is_const ? "const " : "") + one.type + ">");
      }
    }
}

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
  edit_specialisations(unit, edits);
  edit_constructors(unit, edits);
  edit_members(unit, edits);
  edit_promotions(unit, edits);
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
      edits.drop(one.value);
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
