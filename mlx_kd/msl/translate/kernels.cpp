#include <cstdlib>
#include <set>

#include "mlx_kd/msl/parse/attributes.h"
#include "mlx_kd/msl/translate/passes.h"

namespace mlx_kd::msl {
namespace {

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// `type` with the names of template parameters replaced by the arguments.
std::string resolve(const std::string& type, const Function& function,
                    const std::vector<std::string>& values) {
  std::string text;
  for (size_t i = 0; i < type.size();) {
    size_t end = i;
    while (end < type.size() && is_word(type[end])) ++end;
    if (end == i) {
      text += type[i++];
      continue;
    }
    std::string word = type.substr(i, end - i);
    for (size_t k = 0; k < values.size() && k < function.templates.size(); ++k)
      if (function.templates[k].name == word) {
        word = values[k];
        break;
      }
    text += word;
    i = end;
  }
  return text;
}

bool mentions(const std::string& text, const std::string& name) {
  for (size_t at = text.find(name); at != text.npos; at = text.find(name, at + 1)) {
    const size_t end = at + name.size();
    if ((at == 0 || !is_word(text[at - 1])) && (end == text.size() || !is_word(text[end])))
      return true;
  }
  return false;
}

// "" where a template argument that it names is left to its default.
std::string resolved_bound(const std::string& text, const Function& function,
                           const std::vector<std::string>& values) {
  for (size_t k = values.size(); k < function.templates.size(); ++k)
    if (mentions(text, function.templates[k].name)) return "";
  return resolve(text, function, values);
}

int explicit_index(const Parameter& one) {
  const Attribute* attribute = one.attribute("buffer");
  if (!attribute) attribute = one.attribute("threadgroup");
  return attribute ? std::atoi(attribute->argument.c_str()) : -1;
}

void add_sorted(std::vector<Binding>& list, Binding one) {
  auto place = list.begin();
  while (place != list.end() && place->index < one.index) ++place;
  list.insert(place, std::move(one));
}

}  // namespace

std::string symbol_of(const std::string& name) {
  std::string symbol = name;
  for (char& c : symbol)
    if (!is_word(c)) c = '_';
  return symbol.empty() || (symbol[0] >= '0' && symbol[0] <= '9') ? "k_" + symbol : symbol;
}

Kernel describe_kernel(const Unit& unit, const Function& function,
                       const std::vector<std::string>& values) {
  Kernel kernel;
  kernel.name = function.host_name;
  kernel.function = function.scope + function.name;
  kernel.at = function.at;
  for (const Attribute& one : function.attributes)
    if (one.name == "max_total_threads_per_threadgroup")
      kernel.most_threads = resolved_bound(one.argument, function, values);
  std::set<int> taken[2];
  for (const Parameter& one : function.parameters)
    if (!is_place(one)) taken[one.space == Space::threadgroup].insert(explicit_index(one));
  for (const Parameter& one : function.parameters) {
    if (is_place(one)) continue;
    const bool group = one.space == Space::threadgroup;
    int index = explicit_index(one);
    if (index < 0)
      for (index = 0; taken[group].count(index);) ++index;
    taken[group].insert(index);
    Binding binding;
    binding.name = one.name;
    binding.type = unit.alias_of(resolve(one.type, function, values));
    binding.index = index;
    binding.space = one.space;
    binding.is_const = one.is_const;
    binding.of_array = one.reference && unit.arrays.count(one.type);
    binding.reference = one.reference && !binding.of_array;
    if (const Attribute* given = one.attribute("function_constant"))
      binding.present_if = given->argument;
    binding.at = one.at;
    add_sorted(group ? kernel.groups : kernel.buffers, std::move(binding));
  }
  return kernel;
}

namespace {

const Binding& binding_of(const std::vector<Binding>& list, const std::string& name) {
  for (const Binding& one : list)
    if (one.name == name) return one;
  return list.front();
}

std::string place_argument(const Parameter& one) {
  for (const Attribute& attribute : one.attributes)
    if (find_thread_attribute(attribute.name))
      return "kd_as<" + one.type + ">(kd_place." + attribute.name + "())";
  return "";
}

// A copy of what a reference refers to is a read; a buffer that may not be there is not read ahead.
bool is_copied(const Binding& one) {
  return one.reference && one.is_const && one.present_if.empty();
}

// The arguments of one call of the kernel. `copies`: references to what the host binds as constant
// are bound to copies, which the compiler can keep in registers.
std::string call_text(const Function& function, const std::string& arguments, const Kernel& kernel,
                      bool copies) {
  std::string text = kernel.function + arguments + "(";
  for (const Parameter& one : function.parameters) {
    if (&one != &function.parameters[0]) text += ", ";
    if (is_place(one)) {
      text += place_argument(one);
      continue;
    }
    const bool group = one.space == Space::threadgroup;
    const Binding& binding = binding_of(group ? kernel.groups : kernel.buffers, one.name);
    const std::string index = std::to_string(binding.index);
    const char* bound = binding.reference ? "kd_Reference" : "kd_Pointer";
    if (group)
      text += std::string(bound) + "{kd_groups[" + index + "]}";
    else if (copies && is_copied(binding))
      text += "kd_value_" + index;
    else
      text += std::string(bound) + "{" +
              (copies ? "kd_buffer_" + index : "kd_buffers[" + index + "]") + "}";
  }
  return text + ");";
}

}  // namespace

namespace {

std::string group_bytes_text(const Kernel& kernel) {
  std::string sizes;
  for (const Binding& one : kernel.groups)
    sizes +=
        (one.reference || one.of_array ? "sizeof(" + one.type + ")" : std::string("0ul")) + ", ";
  if (sizes.empty()) return "";
  return "extern \"C\" const unsigned long " + kernel.symbol + "_bytes[];\n" +
         "extern \"C\" const unsigned long " + kernel.symbol + "_bytes[] = {" + sizes + "};\n";
}

}  // namespace

std::string entry_text(const Unit&, const Function& function, const std::string& arguments,
                       const Kernel& kernel) {
  std::string text = "extern \"C\" void " + kernel.symbol +
                     "_thread(void* const* kd_buffers, void* const* kd_groups, const kd_thread* "
                     "kd_t) {\n  (void)kd_buffers, (void)kd_groups;\n  const kd_Place "
                     "kd_place(*kd_t);\n  (void)kd_place;\n  " +
                     call_text(function, arguments, kernel, false) + "\n}\n";
  text += group_bytes_text(kernel);
  if (kernel.meets) return text;
  text += "extern \"C\" void " + kernel.symbol +
          "_group(void* const* kd_buffers, void* const* kd_groups, const kd_group* kd_g) {\n"
          "  (void)kd_buffers, (void)kd_groups;\n";
  for (const Binding& one : kernel.buffers) {
    const std::string index = std::to_string(one.index);
    if (is_copied(one))
      text += "  const " + one.type + " kd_value_" + index + " = *static_cast<const " + one.type +
              "*>(kd_buffers[" + index + "]);\n";
    else
      text += "  void* const kd_buffer_" + index + " = kd_buffers[" + index + "];\n";
  }
  return text +
         "  KD_THREADS(kd_g, metal::kd_constant<0u>{});\n  KD_FOR_EACH {\n    const kd_Place "
         "kd_place(kd_copy, kd_x0 + kd_x, kd_x, kd_y, kd_z);\n"
         "    (void)kd_place;\n    " +
         call_text(function, arguments, kernel, true) + "\n  }\n}\n";
}

}  // namespace mlx_kd::msl
