#include "mlx_kd/msl/bodies/body_form.h"

#include <map>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/msl/parse/attributes.h"

namespace mlx_kd::msl {
namespace {

// MLX passes smaller inputs in the constant address space.
constexpr size_t kMaxConstant = 8;

bool is_name(const std::string& text) {
  if (text.empty() || (text[0] >= '0' && text[0] <= '9')) return false;
  for (const char c : text)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'))
      return false;
  return true;
}

void check_names(const BodyKernel& kernel) {
  if (kernel.outputs.empty())
    base::misuse("metal_kernel", "'" + kernel.name + "' has no outputs: name at least one");
  std::set<std::string> seen;
  const auto check = [&](const std::string& name) {
    if (!is_name(name))
      base::misuse("metal_kernel",
                   "'" + name + "' cannot name a parameter: use letters and digits");
    if (!seen.insert(name).second)
      base::misuse("metal_kernel", "'" + name + "' is named twice in '" + kernel.name + "'");
  };
  for (const BodyArray& one : kernel.inputs) check(one.name);
  for (const BodyArray& one : kernel.outputs) check(one.name);
  for (const BodyTemplate& one : kernel.templates) check(one.name);
}

// The parameters of the kernel, in MLX's order.
class Parameters {
 public:
  explicit Parameters(const BodyKernel& kernel) : kernel_(kernel) {}

  std::string run(std::vector<BodyBuffer>& buffers) {
    for (size_t i = 0; i < kernel_.inputs.size(); ++i) input(i, buffers);
    for (size_t i = 0; i < kernel_.outputs.size(); ++i) {
      const std::string type = metal_type(kernel_.outputs[i].dtype);
      add("device " + (kernel_.atomic_outputs ? "atomic<" + type + ">" : type) + "* " +
              kernel_.outputs[i].name,
          {BodyBuffer::Holds::output, i}, buffers);
    }
    for (const ThreadAttribute& one : thread_attributes())
      if (mentions(one.name))
        text_ += (one.vector ? ",\n  uint3 " : ",\n  uint ") + one.name + " [[" + one.name + "]]";
    return text_;
  }

 private:
  bool mentions(const std::string& word) const {
    return kernel_.source.find(word) != std::string::npos;
  }

  void add(const std::string& declaration, BodyBuffer holds, std::vector<BodyBuffer>& buffers) {
    if (!text_.empty()) text_ += ",\n";
    text_ += "  " + declaration + " [[buffer(" + std::to_string(buffers.size()) + ")]]";
    buffers.push_back(holds);
  }

  void input(size_t i, std::vector<BodyBuffer>& buffers) {
    const BodyArray& one = kernel_.inputs[i];
    add("const " + std::string(one.size < kMaxConstant ? "constant " : "device ") +
            metal_type(one.dtype) + (one.ndim == 0 ? "& " : "* ") + one.name,
        {BodyBuffer::Holds::input, i}, buffers);
    if (one.ndim == 0 || kernel_.fixed_shapes) return;
    if (mentions(one.name + "_shape"))
      add("const constant int* " + one.name + "_shape", {BodyBuffer::Holds::shape, i}, buffers);
    if (mentions(one.name + "_strides"))
      add("const constant int64_t* " + one.name + "_strides", {BodyBuffer::Holds::strides, i},
          buffers);
    if (mentions(one.name + "_ndim"))
      add("const constant int& " + one.name + "_ndim", {BodyBuffer::Holds::ndim, i}, buffers);
  }

  const BodyKernel& kernel_;
  std::string text_;
};

std::string list_text(const std::vector<int64_t>& values) {
  std::string text;
  for (const int64_t value : values) text += (text.empty() ? "{" : ", ") + std::to_string(value);
  return text + "}";
}

// The constants of BodyKernel::fixed_shapes, of those that the body mentions.
std::string shape_constants(const BodyKernel& kernel) {
  std::string text;
  if (!kernel.fixed_shapes) return text;
  const auto add = [&](const std::string& type, const std::string& name, const std::string& array,
                       const std::string& value) {
    if (kernel.source.find(name) != std::string::npos)
      text += "constant " + type + " " + name + array + " = " + value + ";\n";
  };
  for (const BodyArray& one : kernel.inputs) {
    if (one.shape.empty()) continue;
    std::vector<int64_t> strides(one.shape.size(), 1);
    for (size_t i = strides.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * one.shape[i];
    const std::string count = std::to_string(one.shape.size());
    add("int", one.name + "_shape", "[" + count + "]", list_text(one.shape));
    add("int64_t", one.name + "_strides", "[" + count + "]", list_text(strides));
    add("int", one.name + "_ndim", "", count);
  }
  return text;
}

std::string template_head(const BodyKernel& kernel) {
  if (kernel.templates.empty()) return "";
  std::string text = "template <";
  for (const BodyTemplate& one : kernel.templates) {
    if (&one != &kernel.templates[0]) text += ", ";
    text += (one.kind == "dtype" ? "typename" : one.kind) + " " + one.name;
  }
  return text + ">\n";
}

std::string template_values(const BodyKernel& kernel) {
  std::string text;
  for (const BodyTemplate& one : kernel.templates) {
    if (one.kind != "dtype" && one.kind != "int" && one.kind != "bool")
      base::misuse("metal_kernel", "template argument '" + one.name + "' is of kind '" + one.kind +
                                       "': give 'int', 'bool' or 'dtype'");
    text += (text.empty() ? "" : ", ") + (one.kind == "dtype" ? metal_type(one.value) : one.value);
  }
  return text;
}

}  // namespace

std::string metal_type(const std::string& dtype) {
  static const std::map<std::string, std::string> types = {
      {"float32", "float"},        {"float16", "float16_t"},
      {"bfloat16", "bfloat16_t"},  {"bool", "bool"},
      {"int8", "int8_t"},          {"int16", "int16_t"},
      {"int32", "int32_t"},        {"int64", "int64_t"},
      {"uint8", "uint8_t"},        {"uint16", "uint16_t"},
      {"uint32", "uint32_t"},      {"uint64", "uint64_t"},
      {"complex64", "complex64_t"}};
  const auto found = types.find(dtype);
  if (found == types.end())
    base::misuse("metal_kernel", "Metal has no type for '" + dtype + "': convert the array first");
  return found->second;
}

BodyForm whole_source(const BodyKernel& kernel) {
  check_names(kernel);
  BodyForm form;
  form.kernel = kernel.name;
  form.texts["kd_header"] = kernel.header + "\n";
  form.texts["kd_body"] = kernel.source + "\n";
  const std::string parameters = Parameters(kernel).run(form.buffers);
  form.text = "#include <mlx_utils>\nusing namespace metal;\n#include \"kd_header\"\n" +
              shape_constants(kernel) + template_head(kernel) + "[[kernel]] void " + kernel.name +
              "(\n" + parameters + ") {\n#include \"kd_body\"\n}\n";
  if (!kernel.templates.empty())
    form.text += "template [[host_name(\"" + kernel.name + "\")]] [[kernel]] decltype(" +
                 kernel.name + "<" + template_values(kernel) + ">) " + kernel.name + "<" +
                 template_values(kernel) + ">;\n";
  return form;
}

}  // namespace mlx_kd::msl
