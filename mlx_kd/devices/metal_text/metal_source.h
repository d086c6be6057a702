// A candidate in Metal, for the devices that translate it or hand it to Metal: its text, and what
// each buffer of its kernel holds.
//
// The kernel binds arrays by the names of the op's ports. A buffer with another name is one number:
// the problem size or the scalar of that name (`constant float& eps`, `constant int& rows`).
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/msl/text/preprocess.h"
#include "mlx_kd/msl/translate/translate.h"

namespace mlx_kd::devices {

// One text with what decides how it is read.
struct MetalText {
  std::string file;  // as messages name it
  std::string text;
  msl::PreprocessOptions options;
};

// What a candidate in Metal is compiled from. Its source is a whole file where its launch_kind
// begins with "metal_"; else it is a body as packs carry it, of a metal_kernel with the type
// argument T, compiled behind the helpers that the first version puts there. The shapes of a body's
// arrays are those of inputs_spec and outputs_spec: fill them in for the size that is called.
MetalText metal_text(const spec::Candidate& candidate);
bool is_body(const spec::Candidate& candidate);

// Whether it is a body that asks for the shape of an input (NAME_shape, NAME_strides, NAME_ndim):
// then it is another kernel at every size. Inputs without a name are passed over.
bool reads_shapes(const spec::Candidate& candidate);

// As messages name the text: "rmsnorm.metal".
std::string metal_file(const spec::Candidate& candidate);

// The macros of a candidate: KD_DTYPE (0 float32, 1 float16, 2 bfloat16) and every source knob.
msl::PreprocessOptions metal_options(const spec::Candidate& candidate);

struct MetalArgument {
  enum class Holds { input, output, number } holds;
  size_t port = 0;   // of an array: its index among the inputs or outputs
  int index = 0;     // of the buffer
  std::string name;  // of the buffer
  std::string type;  // as Metal writes it: "int", "float"
};

// By index of the buffers. Misuse, with the place in the Metal text, where a port has no buffer, an
// output is bound as const or a number is of a type that numbers are not passed in.
std::vector<MetalArgument> metal_arguments(const msl::Kernel& kernel, const msl::SourceSet& sources,
                                           const spec::Candidate& candidate);

using Number = std::array<std::byte, 8>;

// The numbers of a call, one for each argument of that kind, as their types store them. Fails
// (exit 1) where the call has too few runtime inputs, or a number does not fit its type.
std::vector<Number> metal_numbers(const std::vector<MetalArgument>& arguments, const Call& call);

}  // namespace mlx_kd::devices
