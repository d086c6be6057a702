// Our types of elements, shapes and kinds of device as MLX's.
#pragma once

#include <optional>

#include "mlx/array.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::devices {

mlx::core::Dtype mlx_dtype(spec::Dtype dtype);
// nullopt for a type that ports cannot have (int8, complex64, ...).
std::optional<spec::Dtype> spec_dtype(mlx::core::Dtype dtype);

// Where MLX has the arrays that a kind of device ("cuda") works on. mx::is_available says whether
// this MLX was built for it: a machine may have a GPU and an MLX without support for it.
mlx::core::Device::DeviceType mlx_place(const std::string& kind);
// Whether programs of this MLX can use such a device: null invents its times, simt runs Metal on
// fibers to prove it, and the rest need arrays of MLX.
bool serves_programs(const std::string& kind);

// Fails (exit 1) for an axis that is longer than MLX takes.
mlx::core::Shape mlx_shape(const spec::Shape& shape);
std::vector<mlx::core::Shape> mlx_shapes(const std::vector<spec::Shape>& shapes);

}  // namespace mlx_kd::devices
