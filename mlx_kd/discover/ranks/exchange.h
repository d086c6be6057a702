// Bytes of every rank for every rank.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_kd/discover/ranks/launch.h"
#include "mlx_kd/discover/ranks/protocol.h"

namespace mlx_kd::discover {

class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // A collective operation: it returns when all have called it, in the order of ranks. May never
  // return, or throw std::runtime_error, where one of them is gone.
  virtual std::vector<std::string> all_gather(std::string_view bytes) = 0;
};

// MLX's group of the launch. Misuse (room discover) where it cannot be formed as the launcher
// says. Waits forever for ranks that do not start.
std::unique_ptr<Exchange> open_group(const Launch& launch);

}  // namespace mlx_kd::discover
