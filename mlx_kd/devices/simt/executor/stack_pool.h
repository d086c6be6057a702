// Stacks that launches leave for the next ones.
#pragma once

#include <memory>

#include "mlx_kd/devices/simt/executor/fiber.h"

namespace mlx_kd::devices::simt {

// With room for `count` fibers. Thread-safe.
std::unique_ptr<Stacks> take_stacks(size_t count);
void give_stacks(std::unique_ptr<Stacks> stacks);

}  // namespace mlx_kd::devices::simt
