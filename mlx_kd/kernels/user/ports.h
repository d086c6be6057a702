// The ports of a user's kernel as the operator has them.
#pragma once

#include "mlx_kd/kernels/user/expression.h"
#include "mlx_kd/kernels/user_kernel.h"

namespace mlx_kd::kernels::user {

spec::Shape shape_of(const std::vector<Expression>& axes, const spec::Dims& dims);
std::vector<Expression> axes_of(const UserPort& port);
// At a complete size. Misuse (room tune) for an axis below 1.
spec::ArraySpec array_of(const UserPort& port, spec::Dtype t, const spec::Dims& dims);
spec::Port make_port(const UserPort& port);

// The dtype of arrays that Metal declares so, "half" or "float4"; "" for one that they do not have.
std::string dtype_of_metal(const std::string& type);
// How Metal declares the port's elements; KD_T for T. Misuse (room tune) for another type.
std::string metal_type_of(const UserPort& port);

// Whether a size is an axis of an input by itself, so that arrays tell it.
bool is_read(const UserKernel& kernel, const std::string& dim);
// The sizes of arrays of these shapes: those that are axes, and `others` in order for the rest.
spec::Dims dims_of(const UserKernel& kernel, const std::vector<spec::Shape>& inputs,
                   std::span<const double> others);

// Writes the inputs of a proof: numbers of the range that a port states, else normal ones, or
// magnitudes from large to tiny by the distribution.
void fill_ports(const UserKernel& kernel, const spec::FillRequest& request);

}  // namespace mlx_kd::kernels::user
