#include "mlx_kd/shapes/tracked_configs.h"

namespace mlx_kd::shapes {

std::optional<base::Json> tracked_config(const std::string& model_id) {
  static const base::Json all = base::parse_json(tracked_config_files().at("tracked_configs.json"),
                                                 "shapes", "tracked_configs.json");
  const auto found = all.find(model_id);
  return found == all.end() ? std::nullopt : std::optional<base::Json>(*found);
}

}  // namespace mlx_kd::shapes
