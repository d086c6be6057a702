// A verb is one file in cli/verbs/ that defines void add_<verb>(CLI::App&): options, then one call
// of a lower room.
#pragma once

#include <CLI/CLI.hpp>
#include <vector>

namespace mlx_kd::cli {

// Generated (mlx_kd/cli/room.cmake): every add_<verb>, by name in order.
using AddVerb = void(CLI::App&);
const std::vector<AddVerb*>& verbs();

// What a verb throws to end with an exit code of its own after it has said why (130 after Ctrl-C).
struct Exit {
  int code;
};

}  // namespace mlx_kd::cli
