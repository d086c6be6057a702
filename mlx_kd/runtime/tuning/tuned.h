// A user's kernel with the settings that a run of kd tune found, called like any function of
// arrays.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "mlx/array.h"
#include "mlx/utils.h"
#include "mlx_kd/base/api.h"

namespace mlx_kd::runtime {

// The pinned winners of one kernel on this machine. Grid, group, shapes and types come from its
// description. Calls from several threads are safe; each size compiles once per process.
class MLX_KD_API Tuned {
 public:
  // `path`: a run directory of kd tune, or a pack; `name`: the operator, where it holds several.
  // Misuse (room tuned) for one without winners of a user's kernel for this device and MLX, and for
  // a file that others could have written.
  explicit Tuned(const std::filesystem::path& path, const std::string& name = "");

  // Lazy, on a stream of the kernel's device. Throws std::invalid_argument where the arrays do not
  // go together, or have a size or a type at which no setting was proved.
  std::vector<mlx::core::array> operator()(const std::vector<mlx::core::array>& inputs,
                                           const mlx::core::StreamOrDevice& s = {}) const;

  std::string name() const;
  // "float32 rows=1,D=4096: TG=64,VEC=4", one for each winner, ranges behind the size.
  std::vector<std::string> settings() const;

 private:
  struct MLX_KD_HIDDEN State;
  std::shared_ptr<State> state_;
};

}  // namespace mlx_kd::runtime
