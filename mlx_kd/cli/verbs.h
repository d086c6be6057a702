// A verb is one file in cli/verbs/ that defines void add_<verb>(CLI::App&): options, then one call
// of a lower room.
#pragma once

#include <CLI/CLI.hpp>

#include "mlx_kd/cli/verb_table.h"

namespace mlx_kd::cli {

// What a verb throws to end with an exit code of its own after it has said why (130 after Ctrl-C).
struct Exit {
  int code;
};

}  // namespace mlx_kd::cli
