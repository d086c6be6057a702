// The reference of a user's kernel, run in a Python of its own (user/reference.py says how): a file
// that throws, hangs or ends its process costs one message.
#pragma once

#include <mlx/array.h>

#include <map>
#include <string>
#include <vector>

#include "mlx_kd/kernels/user_kernel.h"

namespace mlx_kd::kernels::user {

using OutputArrays = std::vector<spec::Op::Arrays>;

// A call that the reference is asked about.
struct ReferenceCall {
  spec::Dtype t;
  const spec::Dims& dims;              // complete
  const std::vector<double>& scalars;  // in the kernel's order
};

// The outputs in float64 as the judge takes them. All are misuse (room tune), naming the file and
// what it did, for a reference that throws, takes longer than a minute, or returns what the kernel
// does not.
std::vector<spec::Reference64> reference_values(const UserKernel& kernel,
                                                const std::vector<const void*>& inputs,
                                                const ReferenceCall& call);
// The outputs in their own types, written to memory of their size.
void reference_bits(const UserKernel& kernel, const std::vector<const void*>& inputs,
                    const ReferenceCall& call, const std::vector<void*>& outputs);
// The recorded inputs, written to memory of their size.
void recorded_inputs(const UserKernel& kernel, const ReferenceCall& call,
                     const std::vector<void*>& inputs);
// The shapes of a recorded file's arrays by name.
std::map<std::string, spec::Shape> recorded_shapes(const UserReference& reference);

// Whether the Python file's function is one of MLX, which can be exported as a graph.
bool has_graph(const UserKernel& kernel, const ReferenceCall& call);
// The reference as a graph of MLX for arrays of these shapes, on a device. Throws
// std::runtime_error where it has none: it works on arrays of NumPy, or reads values.
using Graph = std::function<spec::Op::Arrays(const spec::Op::Arrays&)>;
Graph exported_reference(const UserKernel& kernel, const ReferenceCall& call,
                         const mlx::core::Device& device);

// Where references run: $MLX_KD_PYTHON, the environment of the clone that this program was built
// in, python3.
std::string python_program();

}  // namespace mlx_kd::kernels::user
