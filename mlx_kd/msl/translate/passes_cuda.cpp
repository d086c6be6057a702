#include <algorithm>

#include "mlx_kd/msl/parse/attributes.h"
#include "mlx_kd/msl/translate/passes.h"

namespace mlx_kd::msl {
namespace {

using Layout = std::vector<CudaParameter>;
using By = CudaParameter::Kind;

// How a number of this type is passed by value; pointer for what is no number.
By kind_of_number(const std::string& type) {
  static const std::map<std::string, By> kinds = {
      {"float", By::real},     {"half", By::real},      {"bfloat", By::real},
      {"bool", By::flag},      {"char", By::whole},     {"uchar", By::whole},
      {"short", By::whole},    {"ushort", By::whole},   {"int", By::whole},
      {"uint", By::whole},     {"int8_t", By::whole},   {"uint8_t", By::whole},
      {"int16_t", By::whole},  {"uint16_t", By::whole}, {"int32_t", By::whole},
      {"uint32_t", By::whole}, {"long", By::low},       {"ulong", By::low},
      {"int64_t", By::low},    {"uint64_t", By::low},   {"size_t", By::low}};
  const auto found = kinds.find(type);
  return found == kinds.end() ? By::pointer : found->second;
}

By kind_of(const Binding& one, const TranslateOptions& options) {
  if (!one.reference && one.is_const && options.lists_by_value.count(one.name)) return By::list;
  const bool number = options.numbers_by_value && one.reference && one.is_const;
  return number ? kind_of_number(one.type) : By::pointer;
}

// Whether no other buffer of the kernel overlaps it.
bool lies_apart(const Binding& one, const Kernel& kernel, const TranslateOptions& options) {
  const auto binds = [&](const std::string& name) {
    return std::any_of(kernel.buffers.begin(), kernel.buffers.end(),
                       [&](const Binding& buffer) { return buffer.name == name; });
  };
  for (const auto& [a, b] : options.same_memory)
    if ((one.name == a && binds(b)) || (one.name == b && binds(a))) return false;
  return options.buffers_apart;
}

std::string declaration(const CudaParameter& parameter, const Kernel& kernel,
                        const TranslateOptions& options) {
  if (parameter.kind == By::grid) return std::string("int grid_") + "xyz"[parameter.binding];
  if (parameter.kind == By::group_offset)
    return "int " + kernel.groups[parameter.binding].name + "_offset";
  const Binding& one = kernel.buffers[parameter.binding];
  switch (parameter.kind) {
    case By::real:
      return "float " + one.name + "_value";
    case By::flag:
      return "bool " + one.name + "_value";
    case By::whole:
      return "int " + one.name + "_value";
    case By::low:
      return "int " + one.name + "_low";
    case By::high:
      return "int " + one.name + "_high";
    case By::list:
      return "const __grid_constant__ kd_List " + one.name + "_list";
    default:
      if (one.of_array)
        return std::string("kd_elements<") + (one.is_const ? "const " : "") + one.type + "> " +
               one.name;
      return std::string(one.is_const ? "const " : "") + one.type + "* " +
             (lies_apart(one, kernel, options) ? "__restrict__ " : "") + one.name +
             (one.reference ? "_pointer" : "");
  }
}

// What a reference of the kernel refers to.
std::string referred(const Binding& one, const TranslateOptions& options) {
  switch (kind_of(one, options)) {
    case By::pointer:
      return "*" + one.name + "_pointer";
    case By::list:
      return one.name + "_list.at";
    case By::low:
      return "(" + one.type + ")((ulong(uint(" + one.name + "_high)) << 32) | uint(" + one.name +
             "_low))";
    default:
      return "(" + one.type + ")" + one.name + "_value";
  }
}

std::string group_type(const Binding& one) {
  const std::string type = (one.is_const ? "const " : "") + one.type;
  return one.of_array ? "kd_elements<" + type + ">" : type + (one.reference ? "&" : "*");
}

std::string group_value(const Binding& one) {
  if (one.of_array) return "*kd_dynamic<" + one.type + ">(" + one.name + "_offset)";
  return std::string(one.reference ? "*" : "") + "kd_dynamic<" + one.type + ">(" + one.name +
         "_offset)";
}

std::string head_of(const Kernel& kernel, const TranslateOptions& options) {
  const std::string& most = kernel.most_threads;
  const std::string bounds = most.empty() ? "" : " __launch_bounds__(" + most + ")";
  std::string text;
  for (const CudaParameter& one : cuda_layout(kernel, options))
    text += (text.empty() ? "" : ", ") + declaration(one, kernel, options);
  return "extern \"C\" __global__ void" + bounds + " " + kernel.symbol + "(" + text + ")";
}

// Threads outside the grid return at once, before any barrier, which CUDA allows.
std::string guard(const TranslateOptions& options) {
  if (options.whole_lines) return "\n  const kd_Place kd_place;";
  return "\n  const kd_Place kd_place(grid_x, grid_y, grid_z);\n  if (!kd_place.inside()) return;";
}

// Declares what Metal gives a kernel in addition to its buffers.
std::string prologue(const Function& function, const Kernel& kernel,
                     const TranslateOptions& options) {
  std::string text = guard(options);
  for (const Parameter& one : function.parameters)
    for (const Attribute& attribute : one.attributes)
      if (find_thread_attribute(attribute.name) && !one.name.empty())
        text += "\n  " + one.type + " " + one.name + " = kd_as<" + one.type + ">(kd_place." +
                attribute.name + "());";
  for (const Binding& one : kernel.buffers)
    if (one.reference)
      text += std::string(one.is_const ? "\n  const " : "\n  ") + one.type +
              (kind_of(one, options) == By::pointer ? "& " : " ") + one.name + " = " +
              referred(one, options) + ";";
  for (const Binding& one : kernel.buffers)
    if (kind_of(one, options) == By::list)
      text += "\n  const " + one.type + "* " + one.name + " = " + one.name + "_list.at;";
  for (const Binding& one : kernel.groups)
    text += "\n  " + group_type(one) + " " + one.name + " = " + group_value(one) + ";";
  return text;
}

// A kernel that is not a template becomes the __global__ function itself.
void edit_kernel(const Unit& unit, const Function& function, const TranslateOptions& options,
                 Edits& edits) {
  const bool is_wanted = options.only.empty() || options.only == function.host_name;
  if (!function.definition || !is_wanted) return edits.remove(function.tokens);
  Kernel kernel = describe_kernel(unit, function, {});
  kernel.symbol = symbol_of(kernel.name);
  edits.drop({function.head, unit.partner[function.open] + 1});
  edits.before(function.head, head_of(kernel, options));
  edits.after(function.body.first, prologue(function, kernel, options));
}

std::string argument(const Parameter& one, const Kernel& kernel, const TranslateOptions& options) {
  for (const Attribute& attribute : one.attributes)
    if (find_thread_attribute(attribute.name))
      return "kd_as<" + one.type + ">(kd_place." + attribute.name + "())";
  for (const Binding& group : kernel.groups)
    if (group.name == one.name) return group_value(group);
  for (const Binding& buffer : kernel.buffers)
    if (buffer.name == one.name && (buffer.reference || kind_of(buffer, options) == By::list))
      return referred(buffer, options);
  return one.name;
}

}  // namespace

Layout cuda_layout(const Kernel& kernel, const TranslateOptions& options) {
  Layout layout;
  for (size_t i = 0; i < kernel.buffers.size(); ++i) {
    layout.push_back({kind_of(kernel.buffers[i], options), i});
    if (layout.back().kind == By::low) layout.push_back({By::high, i});
  }
  const auto rank = [&](const CudaParameter& one) {
    if (one.kind != By::pointer) return 2;
    return kernel.buffers[one.binding].is_const ? 0 : 1;
  };
  if (options.numbers_by_value)
    std::stable_sort(layout.begin(), layout.end(),
                     [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  for (size_t i = 0; i < kernel.groups.size(); ++i) layout.push_back({By::group_offset, i});
  for (size_t axis = 0; axis < 3 && !options.whole_lines; ++axis)
    layout.push_back({By::grid, axis});
  return layout;
}

void edit_functions(const Unit& unit, const TranslateOptions& options, Edits& edits) {
  for (const Function& one : unit.functions) {
    if (one.kernel && one.templates.empty())
      edit_kernel(unit, one, options, edits);
    else if (!edits.dropped(one.body.empty() ? one.head : one.body.first))
      edits.before(one.head, "__device__ ");
  }
}

namespace {

// Behind the braces of "namespace metal { ... }" at i; i where it is none.
uint32_t behind_metal(const Unit& unit, uint32_t i) {
  const auto& tokens = unit.tokens;
  if (!tokens[i].is("namespace") || i + 2 >= tokens.size() || !tokens[i + 1].is("metal")) return i;
  uint32_t open = i + 2;
  while (open < tokens.size() && !is_any(tokens[open], {"{", ";"})) ++open;
  return open < tokens.size() && tokens[open].is("{") ? unit.partner[open] + 1 : i;
}

// Whether the source declares the class template that is specialised.
bool is_of_the_source(const Unit& unit, Range specialised) {
  const auto& tokens = unit.tokens;
  const auto is_class = [&](uint32_t i) { return is_any(tokens[i], {"struct", "class"}); };
  uint32_t name = unit.behind_angles(specialised.first + 1, specialised.last);
  while (name < specialised.last && !is_class(name)) ++name;
  if (++name >= specialised.last || tokens[name + 1].is("::")) return false;
  for (uint32_t i = 0; i + 2 < tokens.size(); ++i)
    if (is_class(i) && tokens[i + 1].text == tokens[name].text && !tokens[i + 2].is("<"))
      return true;
  return false;
}

}  // namespace

void edit_namespaces(const Unit& unit, Edits& edits) {
  std::map<uint32_t, Range> specialised;
  for (const Range& one : unit.specialised)
    if (!is_of_the_source(unit, one)) specialised.emplace(one.first, one);
  uint32_t next = 0;
  for (uint32_t i = 0; i < unit.tokens.size(); i = next) {
    const auto special = specialised.find(i);
    const uint32_t last =
        special != specialised.end() ? special->second.last : behind_metal(unit, i);
    next = std::max({last, unit.partner[i] + 1, i + 1});
    if (last == i) continue;
    edits.before(i, special == specialised.end() ? "} } " : "} ");
    edits.after(last - 1, special == specialised.end() ? " namespace metal { namespace source {"
                                                       : " namespace source {");
  }
}

std::string cuda_entry_text(const Unit&, const Function& function, const std::string& arguments,
                            const Kernel& kernel, const TranslateOptions& options) {
  std::string text =
      head_of(kernel, options) + " {" + guard(options) + "\n  " + kernel.function + arguments + "(";
  for (const Parameter& one : function.parameters)
    text += (&one == &function.parameters[0] ? "" : ", ") + argument(one, kernel, options);
  return text + ");\n}\n";
}

}  // namespace mlx_kd::msl
