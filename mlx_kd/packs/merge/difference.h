// What two packs pin differently.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/packs/pack.h"

namespace mlx_kd::packs {

struct Difference {
  enum class Kind {
    only_a,
    only_b,
    kernel,   // another kernel for the same pin
    speedup,  // the same kernel, and the 95 % intervals of its speed-up over MLX do not meet
    times,    // the same kernel with other times, within the intervals or without them
    other,    // something else of the entry: its range, its proof
  };
  Kind kind;
  std::optional<Entry> a, b;
};

std::string name_of(Difference::Kind kind);

// In the order of key_before; empty if both hold the same entries.
std::vector<Difference> difference(const Pack& a, const Pack& b);

}  // namespace mlx_kd::packs
