// A candidate in Metal as text, for the devices that translate it or hand it to Metal.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/msl/text/preprocess.h"

namespace mlx_kd::devices {

// One text with what decides how it is read.
struct MetalText {
  std::string file;  // as messages name it
  std::string text;
  msl::PreprocessOptions options;
};

// All of it in one string, which tells it from every other: what a process keeps its kernels by.
std::string all_of(const MetalText& text);

// What a candidate in Metal is compiled from. Its source is a whole file where its launch_kind
// begins with "metal_"; else it is a body as packs carry it, of a metal_kernel with the type
// argument T, compiled behind the helpers that zmlx.kd puts there. The shapes of a body's
// arrays are those of inputs_spec and outputs_spec: fill them in for the size that is called.
MetalText metal_text(const spec::Candidate& candidate);
bool is_body(const spec::Candidate& candidate);

// Whether it is a body that asks for the shape of an input (NAME_shape, NAME_strides, NAME_ndim):
// then it is another kernel at every size. Inputs without a name are passed over.
bool reads_shapes(const spec::Candidate& candidate);

// As messages name the text: "rmsnorm.metal".
std::string metal_file(const spec::Candidate& candidate);

// The macros of a candidate: KD_DTYPE (0 float32, 1 float16, 2 bfloat16), KD_TYPE_<port> (as
// spec::Dtype counts) and every source knob.
msl::PreprocessOptions metal_options(const spec::Candidate& candidate);

}  // namespace mlx_kd::devices
