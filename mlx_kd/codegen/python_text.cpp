#include "mlx_kd/codegen/text.h"

namespace mlx_kd::codegen {
namespace {

using Kind = Parameter::Kind;

constexpr const char* kArray = "mlx.core.array";

std::string python_type(const Parameter& parameter) {
  switch (parameter.kind) {
    case Kind::array:
      return kArray;
    case Kind::optional_array:
      return std::string(kArray) + " | None";
    case Kind::int_or_array:
      return std::string("int | ") + kArray;
    case Kind::real:
      return "float";
    default:
      return "int";
  }
}

// As docstrings say it.
std::string type_words(const Parameter& parameter) {
  switch (parameter.kind) {
    case Kind::optional_array:
      return std::string(kArray) + ", optional";
    case Kind::int_or_array:
      return std::string("int or ") + kArray;
    default:
      return python_type(parameter);
  }
}

std::string result_of(const Function& function) {
  const size_t outputs = function.op->outputs.size();
  return outputs == 1 ? kArray
                      : "tuple[" + joined(std::vector<std::string>(outputs, kArray), ", ") + "]";
}

std::string described(const std::string& head, const std::string& text) {
  return head + "\n" + wrapped(text, "    ", kColumns);
}

std::string result_words(size_t outputs) {
  constexpr const char* kCounts[] = {"no",   "one", "two",   "three", "four",
                                     "five", "six", "seven", "eight"};
  return outputs == 1 ? kArray : std::string("tuple of ") + kCounts[outputs] + " " + kArray;
}

std::string binding(const Function& function) {
  std::string text = "  m.def(\"" + function.name + "\", &runtime::" + function.name;
  for (const Parameter& parameter : function.parameters) {
    text += ", \"" + parameter.name + "\"_a";
    if (parameter.kind == Kind::optional_array)
      text += parameter.may_be_left_out ? " = nb::none()" : ".none()";
    else if (!parameter.value.empty())
      text += " = " + parameter.value;
  }
  return text + ", nb::kw_only(), \"stream\"_a = nb::none(),\n        nb::sig(R\"kd(" +
         python_signature(function) + ")kd\"),\n        R\"kd(" + python_docstring(function) +
         ")kd\");\n";
}

}  // namespace

std::string python_signature(const Function& function) {
  std::vector<std::string> all;
  for (const Parameter& parameter : function.parameters) {
    const std::string value = parameter.may_be_left_out ? "None" : parameter.value;
    all.push_back(parameter.name + ": " + python_type(parameter) +
                  (value.empty() ? "" : " = " + value));
  }
  all.push_back("*");
  all.push_back("stream: mlx.core.Stream | mlx.core.Device | mlx.core.DeviceType | None = None");
  return "def " + function.name + "(" + joined(all, ", ") + ") -> " + result_of(function);
}

std::string python_docstring(const Function& function) {
  const spec::Doc& doc = function.op->doc;
  const std::string brief = doc.brief.empty() ? function.op->summary + "." : doc.brief;
  std::string text = first_sentence(brief) + "\n";
  if (const std::string rest = after_first_sentence(brief); !rest.empty())
    text += "\n" + wrapped(rest, "", kColumns);
  text += "\nParameters\n----------\n";
  for (const Parameter& parameter : function.parameters) {
    text += described(parameter.name + " : " + type_words(parameter), parameter.text);
  }
  text += described("stream : mlx.core.Stream or mlx.core.Device, optional",
                    "Where to compute; MLX's default if left out.");
  text +=
      "\nReturns\n-------\n" + described(result_words(function.op->outputs.size()), doc.returns);
  text += "\nRaises\n------\n" +
          described("ValueError",
                    doc.errors.empty()
                        ? "If shapes, types or numbers do not fit; the message says which."
                        : doc.errors);
  text.pop_back();
  return text;
}

std::string python_bindings(const std::vector<Function>& functions) {
  std::string text = "// " + std::string(kGenerated) +
                     "\n#include <nanobind/stl/tuple.h>\n\n"
                     "#include \"mlx_kd/python/bindings.h\"\n\n"
                     "namespace mlx_kd::python {\n\nvoid add_operators(nb::module_& m) {\n"
                     "  using namespace nb::literals;\n";
  for (const Function& function : functions) text += binding(function);
  return text + "}\n\n}  // namespace mlx_kd::python\n";
}

std::string python_module(const std::vector<Function>& functions) {
  std::vector<std::string> names, quoted;
  std::string aliases;
  for (const Function& function : functions) {
    names.push_back(function.name);
    quoted.push_back("\"" + function.name + "\"");
    for (const std::string& alias : function.op->doc.aliases) {
      aliases += alias + " = " + function.name + "\n";
      quoted.push_back("\"" + alias + "\"");
    }
  }
  return "\"\"\"" + std::string(kGenerated) + "\"\"\"\nfrom mlx_kd._core import (\n    " +
         joined(names, ",\n    ") + ")\n\n" + aliases + "__all__ = [\n    " +
         joined(quoted, ",\n    ") + "]\n";
}

std::string python_page(const std::vector<Function>& functions) {
  std::string text = "# The operators in Python\n\n" + std::string(kGenerated) + "\n";
  for (const Function& function : functions) {
    text += "\n## " + function.name + "\n\n```python\n" + python_signature(function) + "\n```\n\n";
    if (!function.op->doc.aliases.empty())
      text += "Also called `" + joined(function.op->doc.aliases, "`, `") + "`.\n\n";
    text += "```text\n" + python_docstring(function) + "\n```\n";
  }
  return text;
}

}  // namespace mlx_kd::codegen
