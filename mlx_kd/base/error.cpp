#include "mlx_kd/base/error.h"

namespace mlx_kd::base {

void misuse(const std::string& room, const std::string& message) {
  throw Error("[" + room + "] " + message, 2);
}

void fail(const std::string& room, const std::string& message) {
  throw Error("[" + room + "] " + message, 1);
}

}  // namespace mlx_kd::base
