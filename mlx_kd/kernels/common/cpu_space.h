// What the knob spaces and launches of the CPU variants have in common.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels {

// Whether the CPU has all of these instruction sets; a '-' or '_' in a name does not matter.
bool has_isa(const spec::DeviceTraits& traits, const std::vector<std::string>& names);

// Whether it has dot products of pairs of bfloat16, and what kernels put around them.
bool has_dots(const spec::DeviceTraits& traits);

// Whether matrices of this type are multiplied in tile registers (AMX, and what packs codes for
// it).
bool has_matrices(spec::Dtype t, const spec::DeviceTraits& traits);
bool is_x86(const spec::DeviceTraits& traits);

// VEC: bytes of a vector, the widest first.
spec::Knob vector_knob(const spec::DeviceTraits& traits);

// BF16, where the type is bfloat16 and the CPU has the instruction to choose; else nothing.
void add_rounding_knob(spec::Space& space, spec::Dtype dtype, const spec::DeviceTraits& traits);

// STREAM with these values on a CPU whose compilers all have such stores; else nothing.
void add_stream_knob(spec::Space& space, const spec::DeviceTraits& traits,
                     std::vector<int64_t> values, std::vector<std::string> labels);

// The launch knobs THREADS (all cores first) and GRAIN (units a task), and their constraint.
void add_thread_knobs(spec::Space& space, const spec::DeviceTraits& traits,
                      std::vector<int64_t> grains, const std::string& unit);

// Tasks of GRAIN units for at most THREADS threads, never more threads than tasks.
spec::Launch share_units(int64_t units, const spec::Setting& knobs);

}  // namespace mlx_kd::kernels
