#include "mlx_kd/spec/count.h"

namespace mlx_kd::spec {

uint64_t count_of(const base::Json& value) {
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  if (value.is_number_integer() && value.get<int64_t>() >= 0)
    return static_cast<uint64_t>(value.get<int64_t>());
  return value.get_ref<const base::Json::number_unsigned_t&>();  // throws what get throws
}

}  // namespace mlx_kd::spec
