// What each buffer of a candidate's kernel in Metal holds, by the buffer's name:
//
//   inp, out         a port of the op. An output that updates an input is one array, bound under
//   the
//                    output's name, the input's or both
//   scratch0..3      device memory that the stages of a call share, not initialised
//   inp_strides      `const constant long*`: the elements per step of each axis of that input, the
//                    outermost first, as mx.fast.metal_kernel has it
//   stage_index      `constant int&`: Stage::index
//   rows, eps        `constant int&`, `constant float&`, ...: a dim or a scalar of the op
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/metal_text/translated_text.h"

namespace mlx_kd::devices {

struct MetalArgument {
  enum class Holds { input, output, scratch, strides, number } holds;
  size_t port = 0;   // its index among the inputs, outputs or scratch arrays; of strides: the input
  int index = 0;     // of the buffer
  std::string name;  // of the buffer
  std::string type;  // as Metal writes it: "int", "float"
  bool is_const = false;
};

// By index of the buffers. Misuse, with the place in the Metal text, for a buffer that is none of
// the above.
std::vector<MetalArgument> metal_arguments(const msl::Kernel& kernel, const msl::SourceSet& sources,
                                           const spec::Candidate& candidate);

// A kernel that stages of a candidate may call.
struct StageKernel {
  msl::Kernel kernel;
  std::vector<MetalArgument> arguments;
};
// All kernels of the candidate's text. Misuse as above; fails (exit 1) if there is none of the
// candidate's name.
std::vector<StageKernel> stage_kernels(const TranslatedText& text,
                                       const spec::Candidate& candidate);

// The kernel of each stage of a call. Fails (exit 1) where the text has none of a stage's name, or
// where no stage binds an output of the call or an input with elements that no output updates.
std::vector<const StageKernel*> kernels_of(const std::vector<StageKernel>& kernels,
                                           const Call& call, const spec::Candidate& candidate);

using Number = std::array<std::byte, 8>;

// The numbers of one stage of a call, one for each argument of that kind, as their types store
// them. Fails (exit 1) where the call does not give one, or it does not fit its type.
std::vector<Number> metal_numbers(const std::vector<MetalArgument>& arguments, const Call& call,
                                  const spec::Stage& stage);
size_t number_bytes(const MetalArgument& number);  // how many of them the type takes

// What a buffer of strides holds: those of the array, or of a row-major one where it names none.
std::vector<int64_t> axis_strides(const spec::ArraySpec& array);

}  // namespace mlx_kd::devices
