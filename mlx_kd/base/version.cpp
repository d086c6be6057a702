#include "mlx_kd/base/version.h"

namespace mlx_kd::base {

std::string version() {
  return MLX_KD_VERSION;
}

}  // namespace mlx_kd::base
