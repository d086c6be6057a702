#include <algorithm>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/user/expression.h"
#include "mlx_kd/kernels/user/ports.h"
#include "mlx_kd/kernels/user/read_files.h"
#include "mlx_kd/kernels/user/spliced.h"
#include "mlx_kd/msl/bodies/known_constants.h"
#include "mlx_kd/msl/bodies/one_kernel.h"
#include "mlx_kd/msl/parse/attributes.h"
#include "mlx_kd/msl/parse/parser.h"
#include "mlx_kd/msl/translate/translate.h"

namespace mlx_kd::kernels::user {
namespace {

constexpr size_t kMostSettings = 4096;  // of function constants: those beyond are not looked at
constexpr const char* kBodyMarker = "// kd: body";
constexpr const char* kStdlib = "#include <metal_stdlib>\nusing namespace metal;\n";
// The type that --dtype names, for texts that let it vary.
constexpr const char* kTypes =
    "#ifndef KD_DTYPE\n#define KD_DTYPE 0\n#endif\n#if KD_DTYPE == 0\n#define KD_T float\n"
    "#elif KD_DTYPE == 1\n#define KD_T half\n#else\n#define KD_T bfloat\n#endif\n";

msl::PreprocessOptions defines_of(const UserKernel& kernel, int dtype) {
  msl::PreprocessOptions options;
  options.defines["KD_DTYPE"] = std::to_string(dtype);
  for (const UserKnob& knob : kernel.knobs)
    options.defines[knob.name] = std::to_string(knob.values.front());
  return options;
}

const UserKnob* knob_named(const UserKernel& kernel, const std::string& name) {
  for (const UserKnob& knob : kernel.knobs)
    if (knob.name == name) return &knob;
  return nullptr;
}

size_t lines_in(const std::string& text) {
  return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
}

// A knob that is not a macro: its macro becomes a constant of another name.
std::string constant_of(const std::string& name, const std::string& type, int64_t otherwise) {
  const std::string value = type == "bool" ? name + " != 0" : name;
  return "#ifndef " + name + "\n#define " + name + " " + std::to_string(otherwise) +
         "\n#endif\nconstant constexpr " + type + " kd_knob_" + name + " = " + value +
         ";\n#undef " + name + "\n";
}

// The whole file with what an instantiation and constants need.
class WholeFile {
 public:
  WholeFile(const Source& source, UserKernel& kernel)
      : source_(source),
        kernel_(kernel),
        unit_(msl::parse(source.file, source.text, first_options(), msl::Unsupported::kept)) {}

  void prepare() {
    const msl::Instantiation* given = nullptr;
    for (const msl::Instantiation& one : unit_.instantiations)
      if (one.host_name == kernel_.function) given = &one;
    const msl::Function& kernel = given ? function(given->function) : function(kernel_.function);
    std::vector<msl::TextEdit> cuts = msl::cuts_around(source_.text, unit_, kernel, given);
    find_unused(kernel, cuts);
    for (const msl::Function& one : unit_.functions)
      for (const msl::Parameter& parameter : one.parameters)
        if (one.kernel && &one != &kernel) other_parameters_.push_back(parameter.name);
    std::vector<msl::TextEdit> edits =
        msl::edits_for_known_constants(source_.text, unit_, kernel, values_of_constants());
    set_function_constants(edits);
    std::erase_if(edits, [&](const msl::TextEdit& edit) { return is_cut(edit, cuts); });
    cuts.insert(cuts.end(), edits.begin(), edits.end());
    finish(msl::edited(source_.text, cuts), given ? "" : instantiation(kernel));
  }

  // Names that the host calls, of kernels and of instantiations.
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const msl::Function& one : unit_.functions)
      if (one.kernel && one.definition && one.templates.empty())
        result.push_back(one.host_name.empty() ? one.name : one.host_name);
      else if (one.kernel && one.definition && is_plain_template(one))
        result.push_back(one.name);
    for (const msl::Instantiation& one : unit_.instantiations) result.push_back(one.host_name);
    return result;
  }

  // To be asked once it is prepared.
  const std::vector<std::string>& unused_knobs() const { return unused_knobs_; }

  const std::vector<std::string>& other_parameters() const { return other_parameters_; }

 private:
  msl::PreprocessOptions first_options() const {
    msl::PreprocessOptions options = defines_of(kernel_, 0);
    // Names of template parameters and constants are not macros.
    const std::string code = without_comments(source_.text);
    for (const UserKnob& knob : kernel_.knobs)
      if (!has_word(code, "ifndef " + knob.name)) options.defines.erase(knob.name);
    if (!source_.head.type_macro.empty()) options.defines[source_.head.type_macro] = "float";
    return options;
  }

  // Whether nothing instantiates it.
  bool is_plain_template(const msl::Function& one) const {
    return std::none_of(unit_.instantiations.begin(), unit_.instantiations.end(),
                        [&](const msl::Instantiation& made) { return made.function == one.name; });
  }

  const msl::Function& function(const std::string& wanted) const {
    std::vector<std::string> known;
    for (const msl::Function& one : unit_.functions) {
      if (!one.kernel || !one.definition) continue;
      if (one.name == wanted || one.host_name == wanted) return one;
      known.push_back(one.name);
    }
    base::misuse("tune", source_.file + " has no kernel '" + kernel_.function + "', but " +
                             base::list_of(known) + ": give one with --fn");
  }

  static bool is_cut(const msl::TextEdit& edit, const std::vector<msl::TextEdit>& cuts) {
    return std::any_of(cuts.begin(), cuts.end(), [&](const msl::TextEdit& cut) {
      return cut.begin <= edit.begin && edit.end <= cut.end;
    });
  }

  // Macros, and function constants, that only what was cut out mentions.
  void find_unused(const msl::Function& kernel, const std::vector<msl::TextEdit>& cuts) {
    for (const std::string_view word : msl::words_used_by(unit_, kernel)) words_.emplace(word);
    const std::string code = without_comments(msl::edited(source_.text, cuts));
    for (const UserKnob& knob : kernel_.knobs) {
      const bool is_used =
          is_constant(knob.name) ? words_.contains(knob.name) : is_mentioned(code, knob.name);
      if (!is_used && !knob.launch) unused_knobs_.push_back(knob.name);
    }
  }

  bool is_constant(const std::string& name) const {
    return std::any_of(unit_.globals.begin(), unit_.globals.end(), [&](const msl::Global& one) {
      return one.function_constant && one.name == name;
    });
  }

  // At every setting of their knobs.
  std::vector<msl::ConstantValues> values_of_constants() const {
    std::vector<msl::ConstantValues> settings(1);
    for (const msl::Global& one : unit_.globals) {
      const UserKnob* knob = one.function_constant ? knob_named(kernel_, one.name) : nullptr;
      if (!knob || settings.size() * knob->values.size() > kMostSettings) continue;
      std::vector<msl::ConstantValues> more;
      for (const msl::ConstantValues& setting : settings)
        for (const int64_t value : knob->values) {
          more.push_back(setting);
          more.back()[*one.function_constant] = std::to_string(value);
        }
      settings = std::move(more);
    }
    return settings;
  }

  // Backwards, as ever: candidates are named by the hash of the text.
  void set_function_constants(std::vector<msl::TextEdit>& edits) {
    for (auto one = unit_.globals.rbegin(); one != unit_.globals.rend(); ++one) {
      if (!one->function_constant || one->at.file != unit_.file) continue;
      const UserKnob* knob = knob_named(kernel_, one->name);
      if (!words_.contains(one->name)) {
        edits.push_back(msl::stretch_of(source_.text, unit_, one->tokens));
        edits.back().text = "constant constexpr " + one->type + " " + one->name + " = " +
                            one->type + (one->type == "bool" ? "(0);" : "(1);");
        continue;
      }
      if (!knob)
        base::misuse("tune", unit_.sources->describe(one->at) + ": the function constant '" +
                                 one->name + "' has no values: add // kd: knob " + one->name +
                                 " 1, 2");
      edits.push_back(msl::stretch_of(source_.text, unit_, one->tokens));
      edits.back().text = "constant constexpr " + one->type + " " + one->name + " = " + one->type +
                          "(kd_knob_" + one->name + ");";
      constants_ +=
          constant_of(one->name, one->type == "bool" ? "bool" : "int", knob->values.front());
    }
  }

  std::string instantiation(const msl::Function& function) {
    if (function.templates.empty()) return "";
    std::string values;
    for (const msl::TemplateParameter& one : function.templates) {
      if (!values.empty()) values += ", ";
      const UserKnob* knob = knob_named(kernel_, one.name);
      if (one.kind == "typename" || one.kind == "class") {
        values += "KD_T";
        needs_types_ = true;
      } else if (knob) {
        values += "kd_knob_" + one.name;
        constants_ +=
            constant_of(one.name, one.kind == "bool" ? "bool" : "int", knob->values.front());
      } else {
        base::misuse("tune", unit_.sources->describe(function.at) + ": the template argument '" +
                                 one.name + "' has no values: add // kd: knob " + one.name +
                                 " 1, 2");
      }
    }
    const std::string name = function.name + "<" + values + ">";
    kernel_.function += "_tuned";
    return "\ntemplate [[host_name(\"" + kernel_.function + "\")]] [[kernel]] decltype(" + name +
           ") " + name + ";\n";
  }

  void finish(const std::string& text, const std::string& behind) {
    const std::string& type = source_.head.type_macro;
    const std::string types = type.empty() && !needs_types_ ? "" : kTypes;
    const std::string front =
        types + (type.empty() ? "" : "#define " + type + " KD_T\n") + constants_;
    kernel_.source = front + text + behind;
    kernel_.places.assign(lines_in(front), "");
    kernel_.places.insert(kernel_.places.end(), source_.places.begin(), source_.places.end());
  }

  const Source& source_;
  UserKernel& kernel_;
  const msl::Unit unit_;
  std::set<std::string> words_;  // that the kernel uses
  std::vector<std::string> unused_knobs_, other_parameters_;
  std::string constants_;
  bool needs_types_ = false;
};

// A whole kernel around the body of a metal_kernel: its arrays and thread positions have the names
// that the body uses, and sizes are parameters of an outer scope.
class BodyFile {
 public:
  BodyFile(const Source& source, UserKernel& kernel, const std::vector<std::string>& sizes)
      : source_(source), kernel_(kernel), code_(without_comments(source.text)), sizes_(sizes) {}

  void prepare() {
    for (const UserPort& port : kernel_.inputs)
      add("const device " + metal_type_of(port) + "* " + port.name);
    for (const UserPort& port : kernel_.outputs)
      add("device " + metal_type_of(port) + "* " + port.name);
    for (const std::string& size : sizes_) add("constant int& " + size);
    std::string places;
    for (const msl::ThreadAttribute& one : msl::thread_attributes())
      if (has_word(code_, one.name))
        places += std::string(",\n  ") + (one.vector ? "uint3 " : "uint ") + one.name + " [[" +
                  one.name + "]]";
    const size_t marker = source_.text.find(kBodyMarker);
    const size_t begin = marker == std::string::npos ? 0 : source_.text.find('\n', marker) + 1;
    const std::string header = source_.text.substr(0, begin), body = source_.text.substr(begin);
    const std::string front =
        kTypes + std::string(has_word(code_, "T") ? "#define T KD_T\n" : "") + kStdlib;
    const std::string opening = "[[kernel]] void " + kernel_.function + "(\n" + parameters_ +
                                places + ") {\n" + shapes() + "{\n";
    kernel_.source = front + header + opening + body + "\n}\n}\n";
    auto& lines = kernel_.places = source_.places;
    const size_t of_header = std::min(lines_in(header), lines.size());
    lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(of_header), lines_in(opening), "");
    lines.insert(lines.begin(), lines_in(front), "");
  }

 private:
  void add(const std::string& declaration) {
    parameters_ +=
        (count_ ? ",\n  " : "  ") + declaration + " [[buffer(" + std::to_string(count_) + ")]]";
    ++count_;
  }

  // NAME_shape, NAME_strides and NAME_ndim, of those that the body mentions.
  std::string shapes() const {
    std::string text;
    for (const UserPort& port : kernel_.inputs) {
      const std::string count = std::to_string(port.shape.size());
      std::string extents, strides, behind = "1";
      for (const std::string& axis : port.shape)
        extents += (extents.empty() ? "" : ", ") + ("int(" + axis + ")");
      for (size_t i = port.shape.size(); i-- > 0;) {
        strides = "long(" + behind + ")" + (strides.empty() ? "" : ", ") + strides;
        behind += " * (" + port.shape[i] + ")";
      }
      if (has_word(code_, port.name + "_shape"))
        text += "const int " + port.name + "_shape[" + count + "] = {" + extents + "};\n";
      if (has_word(code_, port.name + "_strides"))
        text += "const long " + port.name + "_strides[" + count + "] = {" + strides + "};\n";
      if (has_word(code_, port.name + "_ndim"))
        text += "const int " + port.name + "_ndim = " + count + ";\n";
    }
    return text;
  }

  const Source& source_;
  UserKernel& kernel_;
  const std::string code_;
  const std::vector<std::string>& sizes_;
  std::string parameters_;
  int count_ = 0;
};

// The sizes that a body's arrays have.
std::vector<std::string> sizes_in(const UserKernel& kernel) {
  std::vector<std::string> result;
  for (const auto* ports : {&kernel.inputs, &kernel.outputs})
    for (const UserPort& port : *ports)
      for (const std::string& axis : port.shape)
        for (const std::string& name : names_in(axis))
          if (!knob_named(kernel, name) &&
              std::find(result.begin(), result.end(), name) == result.end())
            result.push_back(name);
  return result;
}

bool is_body(const std::string& text) {
  return text.find(kBodyMarker) != text.npos || !has_word(without_comments(text), "kernel");
}

msl::Kernel translated(const Source& source, const UserKernel& kernel, int dtype) {
  const msl::Unit unit = msl::parse(source.file, kernel.source, defines_of(kernel, dtype));
  for (const msl::Kernel& one : msl::translate(unit, msl::Target::cpp, {}).kernels) {
    if (one.name != kernel.function) continue;
    if (!one.groups.empty())
      base::misuse("tune",
                   unit.sources->describe(one.groups.front().at) + ": '" + one.groups.front().name +
                       "' is threadgroup memory that the host sizes: declare an array in the "
                       "kernel in its place");
    return one;
  }
  base::misuse("tune",
               source.file + " has no kernel '" + kernel.function + "': give one with --fn");
}

// What one buffer is, under float32 (`one`) and float16 (`other`).
void take_buffer(const msl::Binding& one, const msl::Binding& other, const Source& source,
                 Signature& result) {
  const std::string type = dtype_of_metal(one.type);
  if (type.empty())
    base::misuse("tune", source.file + ": '" + one.name + "' of the kernel holds " + one.type +
                             ", which arrays of operators do not have");
  if (one.reference) {
    (type == "float32" || type == "float16" || type == "bfloat16" ? result.real : result.whole)
        .push_back(one.name);
    return;
  }
  const bool varies = one.type != other.type;
  if (!varies && result.type.empty() && spec::is_float(spec::parse_dtype(type))) result.type = type;
  (one.is_const ? result.inputs : result.outputs).push_back({one.name, varies ? "T" : type, {}});
}

// What it throws names lines of the text: they become the user's.
template <class Do>
void with_places(const Source& source, const std::vector<std::string>& places, const Do& act) {
  try {
    act();
  } catch (const base::Error& error) {
    throw base::Error(in_user_files(error.what(), {source.file}, places), error.exit_code());
  }
}

}  // namespace

std::vector<std::string> metal_kernels(const Source& source, const UserKernel& kernel) {
  if (is_body(source.text)) return {};
  std::vector<std::string> result;
  UserKernel read = kernel;
  with_places(source, source.places, [&] { result = WholeFile(source, read).names(); });
  return result;
}

Signature prepare_metal(const Source& source, UserKernel& kernel) {
  Signature result;
  if (is_body(source.text))
    BodyFile(source, kernel, sizes_in(kernel)).prepare();
  else
    with_places(source, source.places, [&] {
      WholeFile file(source, kernel);
      file.prepare();
      result.unused_knobs = file.unused_knobs();
      result.other_parameters = file.other_parameters();
    });
  msl::Kernel one, other;
  with_places(source, kernel.places, [&] {
    one = translated(source, kernel, 0);
    other = translated(source, kernel, 1);
  });
  for (size_t i = 0; i < one.buffers.size(); ++i)
    take_buffer(one.buffers[i], other.buffers[i], source, result);
  const auto is_t = [](const UserPort& port) { return port.type == "T"; };
  if (std::any_of(result.inputs.begin(), result.inputs.end(), is_t) ||
      std::any_of(result.outputs.begin(), result.outputs.end(), is_t))
    result.type.clear();
  for (auto* ports : {&result.inputs, &result.outputs})
    for (UserPort& port : *ports)
      if (!result.type.empty() && port.type == result.type) port.type = "T";
  return result;
}

}  // namespace mlx_kd::kernels::user
