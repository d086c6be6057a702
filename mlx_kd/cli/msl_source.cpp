#include "mlx_kd/cli/msl_source.h"

#include <cctype>
#include <cstdlib>
#include <filesystem>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/msl/bodies/body_form.h"

namespace mlx_kd::cli {
namespace {

constexpr uint64_t kMostBytes = 64u << 20;

msl::PreprocessOptions preprocess_options(const MslSource& source) {
  msl::PreprocessOptions options;
  options.include_folders.assign(source.includes.begin(), source.includes.end());
  for (const std::string& one : source.defines) {
    const size_t equals = one.find('=');
    options.defines[one.substr(0, equals)] =
        equals == std::string::npos ? "1" : one.substr(equals + 1);
  }
  return options;
}

msl::TranslateOptions translate_options(const MslSource& source) {
  msl::TranslateOptions options;
  for (const std::string& one : source.constants) {
    char* end = nullptr;
    const long index = std::strtol(one.c_str(), &end, 10);
    if (end == one.c_str() || *end != '=')
      base::misuse("msl", "'" + one + "': write a function constant as INDEX=VALUE");
    options.function_constants[static_cast<int>(index)] = end + 1;
  }
  options.bfloat_functions = source.is_body;  // MLX adds them to what metal_kernel compiles
  return options;
}

// "f32" -> "float32".
std::string dtype_of(const std::string& type) {
  static const std::map<std::string, std::string> names = {
      {"f32", "float32"}, {"f16", "float16"}, {"bf16", "bfloat16"}, {"bool", "bool"},
      {"i8", "int8"},     {"i16", "int16"},   {"i32", "int32"},     {"i64", "int64"},
      {"u8", "uint8"},    {"u16", "uint16"},  {"u32", "uint32"},    {"u64", "uint64"}};
  const auto found = names.find(type);
  return found == names.end() ? "" : found->second;
}

// "T=f16", "T=float16", "N=4", "FAST=true".
msl::BodyTemplate body_template(const std::string& text) {
  const size_t equals = text.find('=');
  const std::string name = text.substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : text.substr(equals + 1);
  if (value == "true" || value == "false") return {name, "bool", value};
  char* end = nullptr;
  std::strtol(value.c_str(), &end, 10);
  if (!value.empty() && *end == '\0') return {name, "int", value};
  if (const std::string dtype = dtype_of(value); !dtype.empty()) return {name, "dtype", dtype};
  if (name.empty() || value.empty())
    base::misuse("msl", "'" + text + "': write a template argument as T=float16, N=4 or FAST=true");
  msl::metal_type(value);  // says which types there are
  return {name, "dtype", value};
}

std::vector<msl::BodyArray> body_arrays(const std::vector<devices::HostArray>& arrays) {
  std::vector<msl::BodyArray> result;
  for (const devices::HostArray& one : arrays)
    result.push_back({one.name, dtype_of(one.type), static_cast<int>(one.shape.size()),
                      one.elements(), one.shape});
  return result;
}

std::string word_of(const std::string& text) {
  std::string result;
  for (const char c : text) result += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return result;
}

}  // namespace

void add_msl_source(CLI::App& verb, MslSource& source) {
  verb.add_option("file", source.file, "The Metal source")->required();
  verb.add_option("-I,--include", source.includes, "A folder for #include");
  verb.add_option("-D,--define", source.defines, "A macro: NAME or NAME=VALUE");
  verb.add_option("--constant", source.constants, "A function constant: INDEX=VALUE");
}

void add_msl_body(CLI::App& verb, MslSource& source) {
  const std::string group = "Bodies of metal_kernel";
  verb.add_flag("--body", source.is_body,
                "The file is the body of a metal_kernel, whose arrays --in and --out name")
      ->group(group);
  verb.add_option("--header", source.header, "A file with the text in front of it")->group(group);
  verb.add_option("--template", source.templates, "NAME=VALUE: T=float16, N=4, FAST=true")
      ->group(group);
}

MslText read_msl(const MslSource& source, const std::vector<devices::HostArray>& inputs,
                 const std::vector<devices::HostArray>& outputs) {
  MslText result{base::read_file(source.file, "msl", kMostBytes), preprocess_options(source),
                 translate_options(source), ""};
  if (!source.is_body) {
    if (!source.header.empty() || !source.templates.empty())
      base::misuse("msl",
                   "--header and --template belong to the body of a metal_kernel: add "
                   "--body, or include the header in " +
                       source.file);
    return result;
  }
  msl::BodyKernel kernel;
  kernel.name = "body_" + word_of(std::filesystem::path(source.file).stem().string());
  kernel.source = std::move(result.text);
  if (!source.header.empty()) kernel.header = base::read_file(source.header, "msl", kMostBytes);
  kernel.inputs = body_arrays(inputs);
  kernel.outputs = body_arrays(outputs);
  for (const std::string& one : source.templates) kernel.templates.push_back(body_template(one));
  kernel.fixed_shapes = true;
  msl::BodyForm form = msl::whole_source(kernel);
  result.text = std::move(form.text);
  result.kernel = std::move(form.kernel);
  result.preprocess.texts = std::move(form.texts);
  return result;
}

}  // namespace mlx_kd::cli
