// The body and header form of mx.fast.metal_kernel -> a whole Metal source, with the names and
// attributes that MLX 0.32 adds.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace mlx_kd::msl {

// An array as metal_kernel sees it.
struct BodyArray {
  std::string name;
  std::string dtype;  // MLX's: "float32", "bfloat16", "int32", "bool", ...
  int ndim = 1;
  size_t size = 0;                  // elements
  std::vector<int64_t> shape = {};  // needed where BodyKernel::fixed_shapes says so
};

struct BodyTemplate {
  std::string name;
  std::string kind;   // "int", "bool", "dtype"
  std::string value;  // "4", "true", "float16"
};

struct BodyKernel {
  std::string name;
  std::string source;
  std::string header;
  std::vector<BodyArray> inputs;
  std::vector<BodyArray> outputs;
  std::vector<BodyTemplate> templates;
  bool atomic_outputs = false;
  // Shapes are known: NAME_shape, NAME_strides (row-major) and NAME_ndim are constants of the
  // source, and not buffers.
  bool fixed_shapes = false;
};

// What a generated buffer of the kernel holds.
struct BodyBuffer {
  enum class Holds { input, shape, strides, ndim, output } holds;
  size_t array = 0;  // index among inputs or outputs
};

struct BodyForm {
  std::string text;                 // the whole source
  std::string kernel;               // its host name
  std::vector<BodyBuffer> buffers;  // in order of index
  // What `text` includes (PreprocessOptions::texts): the header as "kd_header" and the body as
  // "kd_body", so that messages count lines in what the user wrote.
  std::map<std::string, std::string> texts;
};

// "float16" -> "float16_t". Misuse for a type that Metal lacks (float64, complex128).
std::string metal_type(const std::string& dtype);

// Misuse for no outputs, names that are not identifiers or appear twice.
BodyForm whole_source(const BodyKernel& kernel);

}  // namespace mlx_kd::msl
