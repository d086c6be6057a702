#include "mlx_kd/msl/attributes.h"
#include "mlx_kd/msl/passes.h"

namespace mlx_kd::msl {
namespace {

const Kernel plain_kernel(const Unit& unit, const Function& function) {
  Kernel kernel = describe_kernel(unit, function, {});
  kernel.symbol = symbol_of(kernel.name);
  return kernel;
}

std::string launch_bounds(const Function& function) {
  for (const Attribute& one : function.attributes)
    if (one.name == "max_total_threads_per_threadgroup")
      return " __launch_bounds__(" + one.argument + ")";
  return "";
}

// A kernel that is no template becomes the __global__ function itself.
void edit_kernel(const Unit& unit, const Function& function, Edits& edits) {
  if (!function.definition) return edits.drop(function.tokens);
  const Kernel kernel = plain_kernel(unit, function);
  edits.drop({function.head, unit.partner[function.open] + 1});
  edits.before(function.head, "extern \"C\" __global__ void" + launch_bounds(function) + " " +
                                  kernel.symbol + "(" + cuda_parameters(kernel) + ")");
  edits.after(function.body.first, cuda_prologue(function, kernel));
}

}  // namespace

void edit_functions(const Unit& unit, Edits& edits) {
  for (const Function& one : unit.functions) {
    if (one.kernel && one.templates.empty())
      edit_kernel(unit, one, edits);
    else if (!edits.dropped(one.body.empty() ? one.head : one.body.first))
      edits.before(one.head, "__device__ ");
  }
}

std::string cuda_parameters(const Kernel& kernel) {
  std::string text;
  for (const Binding& one : kernel.buffers)
    text += std::string(one.is_const ? "const " : "") + one.type + "* " + one.name +
            (one.reference ? "_pointer" : "") + ", ";
  for (const Binding& one : kernel.groups) text += "int " + one.name + "_offset, ";
  return text + "int grid_x, int grid_y, int grid_z";
}

// Declares what Metal gives a kernel beside its buffers. Threads outside the grid return at once,
// before any barrier, which CUDA allows.
std::string cuda_prologue(const Function& function, const Kernel& kernel) {
  std::string text =
      "\n  const kd_Place kd_place(grid_x, grid_y, grid_z);\n  if (!kd_place.inside()) return;";
  for (const Parameter& one : function.parameters)
    for (const Attribute& attribute : one.attributes)
      if (find_thread_attribute(attribute.name) && !one.name.empty())
        text += "\n  " + one.type + " " + one.name + " = kd_as<" + one.type + ">(kd_place." +
                attribute.name + "());";
  for (const Binding& one : kernel.buffers)
    if (one.reference)
      text += std::string(one.is_const ? "\n  const " : "\n  ") + one.type + "& " + one.name +
              " = *" + one.name + "_pointer;";
  for (const Binding& one : kernel.groups)
    text += std::string("\n  ") + (one.is_const ? "const " : "") + one.type + "* " + one.name +
            " = kd_dynamic<" + one.type + ">(" + one.name + "_offset);";
  return text;
}

std::string cuda_entry_text(const Unit&, const Function& function, const std::string& arguments,
                            const Kernel& kernel) {
  std::string text = "extern \"C\" __global__ void" + launch_bounds(function) + " " +
                     kernel.symbol + "(" + cuda_parameters(kernel) +
                     ") {\n  const kd_Place kd_place(grid_x, grid_y, grid_z);\n"
                     "  if (!kd_place.inside()) return;\n  " +
                     kernel.function + arguments + "(";
  for (const Parameter& one : function.parameters) {
    if (&one != &function.parameters[0]) text += ", ";
    std::string value =
        std::string(one.reference ? "*" : "") + one.name + (one.reference ? "_pointer" : "");
    for (const Attribute& attribute : one.attributes)
      if (find_thread_attribute(attribute.name))
        value = "kd_as<" + one.type + ">(kd_place." + attribute.name + "())";
    for (const Binding& group : kernel.groups)
      if (group.name == one.name) value = "kd_dynamic<" + group.type + ">(" + one.name + "_offset)";
    text += value;
  }
  return text + ");\n}\n";
}

}  // namespace mlx_kd::msl
