// exo's older message of its gRPC service: message Tensor { bytes tensor_data = 1;
// repeated int32 shape = 2; string dtype = 3; }.
#pragma once

#include <string>

#include "mlx_kd/runtime/wire/msgpack.h"

namespace mlx_kd::runtime::wire {

// Row-major bytes of the tensor, then its shape and type, as protobuf writes the three fields.
MLX_KD_API std::string write_grpc_tensor(const Tensor& tensor);
// The tensor refers to `message`. Shapes may be packed or one number at a time; unknown fields are
// passed over. base::Error (exit code 2) for anything that is not such a message.
MLX_KD_API Tensor read_grpc_tensor(Bytes message, const Limits& limits);

}  // namespace mlx_kd::runtime::wire
