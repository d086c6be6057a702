// The published configs of the models that are followed, so that their sizes need no network.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "mlx_kd/spec/op/model_config.h"

namespace mlx_kd::shapes {

// The fields that give sizes, of a model by its id on the hub ("mlx-community/..."). nullopt for
// other models.
std::optional<base::Json> tracked_config(const std::string& model_id);

// Generated (mlx_kd/shapes/room.cmake).
const std::map<std::string, std::string>& tracked_config_files();

}  // namespace mlx_kd::shapes
