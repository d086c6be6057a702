#include "mlx_kd/codegen/text.h"

namespace mlx_kd::codegen {
namespace {

using Kind = Parameter::Kind;

std::string cpp_type(const Parameter& parameter) {
  switch (parameter.kind) {
    case Kind::array:
      return "const mx::array& ";
    case Kind::optional_array:
      return "const std::optional<mx::array>& ";
    case Kind::int_or_array:
      return "const IntOrArray& ";
    case Kind::real:
      return "double ";
    default:
      return "int64_t ";
  }
}

std::string sentence(const std::string& text) {
  return text.empty() || text.ends_with('.') ? text : text + ".";
}

// What the function's comment says of its parameters, outputs and errors.
std::string words_of(const Function& function) {
  std::string text;
  for (const Parameter& parameter : function.parameters)
    if (!parameter.text.empty())
      text += (text.empty() ? "" : " ") + parameter.name + ": " + sentence(parameter.text);
  if (!function.op->doc.returns.empty())
    text +=
        (text.empty() ? "" : " ") + std::string("Returns: ") + sentence(function.op->doc.returns);
  if (!function.op->doc.errors.empty())
    text += " std::invalid_argument: " + sentence(function.op->doc.errors);
  return text;
}

std::vector<std::string> arguments_of(const Function& function, const std::string& before) {
  std::vector<std::string> names;
  for (const Parameter& parameter : function.parameters)
    if (parameter.kind == Kind::optional_array)
      names.push_back("given(" + parameter.name + ")");
    else if (parameter.kind == Kind::int_or_array)
      names.push_back("given(op, " + std::to_string(parameter.index) + ", " + parameter.name + ")");
    else if (parameter.is_array())
      names.push_back(before + parameter.name);
  return names;
}

// An int is checked before anything runs, against the sizes of the arrays.
std::string int_checks(const Function& function) {
  std::string text;
  for (const Parameter& parameter : function.parameters)
    if (parameter.kind == Kind::int_or_array)
      text += "  check_int(op, " + std::to_string(parameter.index) + ", " + parameter.name +
              ", inputs, numbers, s);\n";
  return text;
}

// The fast path takes arrays of one type, all given.
bool has_fast_path(const Function& function) {
  if (function.form.empty() || function.op->arrange || function.op->signature) return false;
  for (const spec::Port& port : function.op->inputs)
    if (port.optional || port.int_range || !port.type.follows()) return false;
  return true;
}

std::string fast_path(const Function& function) {
  std::vector<std::string> arguments;
  for (const Parameter& parameter : function.parameters) arguments.push_back(parameter.name);
  arguments.push_back("s");
  return "  if (is_plain(op, Inputs(" + joined(arguments_of(function, "&"), ", ") +
         "), numbers) && passes_by())\n    return kernels::" + function.op->name + "_in_mlx(" +
         joined(arguments, ", ") + ");\n";
}

std::string definition(const Function& function) {
  std::string text =
      cpp_result(function) + " " + function.name + "(" + cpp_parameters(function, false) + ") {\n";
  text += "  static const Operator& op = known_operator(\"" + function.op->name + "\");\n";
  text += "  Numbers numbers;\n";
  for (const Parameter& parameter : function.parameters)
    if (!parameter.is_array())
      text += std::string("  numbers.") + (parameter.is_attribute ? "attributes[" : "scalars[") +
              std::to_string(parameter.index) + "] = " +
              (parameter.kind == Kind::integer && !parameter.is_attribute
                   ? "static_cast<double>(" + parameter.name + ")"
                   : parameter.name) +
              ";\n";
  if (has_fast_path(function)) text += fast_path(function);
  const size_t outputs = function.op->outputs.size();
  std::string list = "list_of(" + joined(arguments_of(function, ""), ", ") + ")";
  if (const std::string checks = int_checks(function); !checks.empty()) {
    text += "  std::vector<mx::array> inputs = " + list + ";\n" + checks;
    list = "std::move(inputs)";
  }
  const std::string run = "run_checked(op, " + list + ", numbers, s)";
  text += "  return " + (outputs == 1   ? "only(" + run
                         : outputs == 2 ? "pair_of(" + run
                                        : "tuple_of(" + run + ", std::make_index_sequence<" +
                                              std::to_string(outputs) + ">()");
  return text + ");\n}\n";
}

}  // namespace

std::string cpp_result(const Function& function) {
  const size_t outputs = function.op->outputs.size();
  if (outputs == 1) return "mx::array";
  const std::vector<std::string> all(outputs, "mx::array");
  return (outputs == 2 ? "std::pair<" : "std::tuple<") + joined(all, ", ") + ">";
}

std::string cpp_parameters(const Function& function, bool defaults) {
  std::vector<std::string> all;
  for (const Parameter& parameter : function.parameters) {
    const std::string value = parameter.may_be_left_out ? "std::nullopt" : parameter.value;
    all.push_back(cpp_type(parameter) + parameter.name +
                  (defaults && !value.empty() ? " = " + value : ""));
  }
  all.push_back(defaults ? "mx::StreamOrDevice s = {}" : "mx::StreamOrDevice s");
  return joined(all, ", ");
}

std::string cpp_declaration(const Function& function, const std::string& api) {
  const std::string first = api + cpp_result(function) + " " + function.name + "(";
  const std::string rest = cpp_parameters(function, true) + ");";
  const std::string comment = wrapped(function.op->doc.brief, "// ", kColumns) +
                              wrapped(words_of(function), "// ", kColumns);
  if (first.size() + rest.size() <= kColumns) return comment + first + rest + "\n";
  return comment + first + "\n" + wrapped(rest, "    ", kColumns);
}

std::string cpp_definitions(const std::vector<Function>& functions) {
  std::string text = "// " + std::string(kGenerated) + "\n#include \"mlx_kd/runtime/call/ops.h\"\n";
  text += "\n#include \"mlx_kd/runtime/call/function.h\"\n";
  for (const Function& function : functions)
    if (has_fast_path(function)) text += "#include \"" + function.form + "\"\n";
  text += "\nnamespace mlx_kd::runtime {\n";
  for (const Function& function : functions) text += "\n" + definition(function);
  return text + "\n}  // namespace mlx_kd::runtime\n";
}

std::string cpp_page(const std::vector<Function>& functions) {
  std::string text = "# The operators in C++\n\n" + std::string(kGenerated) +
                     "\n\nAll are declared by `mlx_kd/mlx_kd.h` in the namespace `mlx_kd`.\n";
  for (const Function& function : functions) {
    text += "\n## " + function.name + "\n\n" + wrapped(function.op->doc.brief, "", kColumns) +
            "\n```cpp\n";
    const std::string whole = cpp_declaration(function, "");
    size_t at = 0;
    while (whole.compare(at, 2, "//") == 0) at = whole.find('\n', at) + 1;
    text += whole.substr(at) + "```\n\n";
    for (const Parameter& parameter : function.parameters)
      text += "- `" + parameter.name + "`: " + parameter.text + "\n";
    text += "\nReturns: " + sentence(function.op->doc.returns) +
            " `std::invalid_argument`: " + sentence(function.op->doc.errors) + "\n";
  }
  return text;
}

}  // namespace mlx_kd::codegen
