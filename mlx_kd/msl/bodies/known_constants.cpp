#include "mlx_kd/msl/bodies/known_constants.h"

#include <algorithm>
#include <map>

#include "mlx_kd/msl/parse/constants.h"

namespace mlx_kd::msl {
namespace {

size_t place_in_text(const std::string& text, Position at) {
  size_t offset = 0;
  for (uint32_t line = 1; line < at.line; ++line) offset = text.find('\n', offset) + 1;
  return offset + at.column - 1;
}

class ConstantEdits {
 public:
  ConstantEdits(const std::string& text, const Unit& unit,
                const std::vector<ConstantValues>& values)
      : text_(text), unit_(unit), values_(values) {}

  void function(const Function& one, bool is_kernel) {
    std::string locals;
    bool any_before = false;
    for (const Parameter& parameter : one.parameters) {
      if (!is_written(text_, unit_, parameter.tokens)) continue;
      if (is_kernel && is_off(parameter)) {
        leave_out(parameter, any_before);
        locals += local_of(parameter);
        continue;
      }
      any_before = true;
      for (const TextEdit& edit : attribute_edits(parameter)) edits_.push_back(edit);
    }
    if (locals.empty()) return;
    const size_t behind = stretch_of(text_, unit_, {one.body.first, one.body.first + 1}).end;
    edits_.push_back({behind, behind, locals});
  }

  void questions() {
    for (uint32_t i = 0; i + 3 < unit_.tokens.size(); ++i)
      if (unit_.tokens[i].at.file == unit_.file &&
          unit_.tokens[i].is("is_function_constant_defined"))
        put({i, i + 4}, "true");
  }

  std::vector<TextEdit> take() { return std::move(edits_); }

 private:
  bool is_off(const Parameter& one) const {
    const Attribute* const asked = one.attribute("function_constant");
    if (!asked || one.pointer == one.reference || one.type.empty()) return false;
    return std::all_of(values_.begin(), values_.end(), [&](const ConstantValues& one_of_them) {
      return is_known_false(unit_, asked->argument, one_of_them);
    });
  }

  void put(Range tokens, std::string by) {
    TextEdit edit = stretch_of(text_, unit_, tokens);
    edit.text = std::move(by);
    edits_.push_back(std::move(edit));
  }

  // With the comma in front of it, or where nothing is left in front, the one behind it.
  void leave_out(const Parameter& one, bool any_before) {
    Range tokens = one.tokens;
    if (any_before)
      --tokens.first;
    else if (unit_.tokens[tokens.last].is(","))
      ++tokens.last;
    put(tokens, "");
  }

  // Attributes in one pair of double brackets lose the constant and keep the others.
  std::vector<TextEdit> attribute_edits(const Parameter& one) const {
    std::map<uint32_t, TextEdit> edits;
    for (const Attribute& asked : one.attributes) {
      if (asked.name != "function_constant") continue;
      std::string rest;
      for (const Attribute& other : one.attributes)
        if (other.tokens.first == asked.tokens.first && other.name != "function_constant")
          rest += (rest.empty() ? "" : ", ") + other.name +
                  (other.argument.empty() ? "" : "(" + other.argument + ")");
      TextEdit edit = stretch_of(text_, unit_, asked.tokens);
      edit.text = rest.empty() ? "" : "[[" + rest + "]]";
      edits[asked.tokens.first] = edit;
    }
    std::vector<TextEdit> result;
    for (const auto& [first, edit] : edits) result.push_back(edit);
    return result;
  }

  std::string local_of(const Parameter& one) const {
    if (one.reference) return " const " + one.type + " " + one.name + " = {};";
    const TextEdit whole = stretch_of(text_, unit_, one.tokens);
    std::vector<TextEdit> cuts;
    for (const Attribute& attribute : one.attributes) {
      TextEdit cut = stretch_of(text_, unit_, attribute.tokens);
      cut.begin -= whole.begin, cut.end -= whole.begin;
      if (cuts.empty() || cuts.back().begin != cut.begin) cuts.push_back(cut);
    }
    std::string declared = edited(text_.substr(whole.begin, whole.end - whole.begin), cuts);
    std::replace(declared.begin(), declared.end(), '\n', ' ');
    return " " + declared + " = nullptr;";
  }

  const std::string& text_;
  const Unit& unit_;
  const std::vector<ConstantValues>& values_;
  std::vector<TextEdit> edits_;
};

}  // namespace

TextEdit stretch_of(const std::string& text, const Unit& unit, Range tokens) {
  const Token &first = unit.tokens[tokens.first], &last = unit.tokens[tokens.last - 1];
  return {place_in_text(text, first.at), place_in_text(text, last.at) + last.text.size(), ""};
}

bool is_written(const std::string& text, const Unit& unit, Range tokens) {
  const auto stands = [&](const Token& token) {
    return token.at.file == unit.file &&
           text.compare(place_in_text(text, token.at), token.text.size(), token.text) == 0;
  };
  return stands(unit.tokens[tokens.first]) && stands(unit.tokens[tokens.last - 1]);
}

std::string edited(std::string text, std::vector<TextEdit> edits) {
  std::sort(edits.begin(), edits.end(),
            [](const TextEdit& a, const TextEdit& b) { return a.begin > b.begin; });
  for (const TextEdit& edit : edits) text.replace(edit.begin, edit.end - edit.begin, edit.text);
  return text;
}

std::vector<TextEdit> edits_for_known_constants(const std::string& text, const Unit& unit,
                                                const Function& kernel,
                                                const std::vector<ConstantValues>& values) {
  ConstantEdits edits(text, unit, values);
  for (const Function& one : unit.functions)
    if (one.kernel && one.definition && one.at.file == unit.file)
      edits.function(one, &one == &kernel);
  edits.questions();
  return edits.take();
}

}  // namespace mlx_kd::msl
