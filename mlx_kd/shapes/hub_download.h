// One small file from the hub into the cache, by the program curl (docs/decisions/sizes.md says
// why).
#pragma once

#include "mlx_kd/shapes/hub_cache.h"
#include "mlx_kd/shapes/model_source.h"

namespace mlx_kd::shapes {

inline constexpr int kAttempts = 3;                        // on broken transfers
inline constexpr const char* kMaxFetchBytes = "16777216";  // more is refused

// Asks for the file's ETag and commit, then fetches what is missing of it (an earlier part is kept
// and continued), checks its length, and its SHA-256 where the ETag is one. Other processes that
// fetch the same file wait. See find_config for errors. The token is never in a command line.
ModelFile fetch(const ModelRequest& request, const std::string& name, const CachedModel& model,
                const HubSettings& settings, const FetchWatch& watch);

}  // namespace mlx_kd::shapes
