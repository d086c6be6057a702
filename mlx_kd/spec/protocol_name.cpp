#include "mlx_kd/spec/protocol_name.h"

namespace mlx_kd::spec {

std::string protocol_name(const std::string& stored) {
  if (stored == "28850ad635fe7233") return "2";
  if (stored == "c537d62d1eff1363") return "2-device-clock";
  return stored;
}

}  // namespace mlx_kd::spec
