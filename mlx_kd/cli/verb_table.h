// The verbs of the program, without the headers of CLI11.
#pragma once

#include <vector>

namespace CLI {
class App;
}

namespace mlx_kd::cli {

// Generated (mlx_kd/cli/room.cmake): every add_<verb>, by name in order.
using AddVerb = void(CLI::App&);
const std::vector<AddVerb*>& verbs();

}  // namespace mlx_kd::cli
