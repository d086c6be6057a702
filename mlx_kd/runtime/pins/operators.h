// Every operator of the library with what the runtime knows of it.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/runtime/pins/signature.h"
#include "mlx_kd/spec/op.h"

namespace mlx_kd::runtime {

struct Operator {
  const spec::Op* op;
  uint16_t index;  // into all_operators()
  Signature signature;
  devices::MlxForm form;
};

// By name in order. Made once, never destroyed: arrays that outlive every static object point here.
const std::vector<Operator>& all_operators();

// nullptr if there is none.
const Operator* find_operator(const std::string& name);

}  // namespace mlx_kd::runtime
