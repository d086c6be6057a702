// A kernel in Metal whose knobs have proved values: until a setting is proved for the arrays of a
// call, a function of MLX runs in its place.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mlx/array.h"
#include "mlx/utils.h"
#include "mlx_kd/base/api.h"

namespace mlx_kd::runtime {

// A body as metal_kernel takes it, in which the knobs are macros.
struct AutotuneKernel {
  // Values of the knobs by name, in order of Autotune::knobs.
  using Knobs = std::vector<std::pair<std::string, int64_t>>;
  // How one setting is launched for arrays: threads of the grid and of a group, shapes and types of
  // the outputs.
  struct Launch {
    std::array<int64_t, 3> grid = {1, 1, 1}, group = {1, 1, 1};
    std::vector<mlx::core::Shape> output_shapes;
    std::vector<mlx::core::Dtype> output_dtypes;
  };

  std::string name;  // letters, digits and _
  std::vector<std::string> input_names, output_names;
  std::string source;
  std::string header = {};
  // Throws std::invalid_argument for a setting that these arrays rule out, which is left out then.
  // T in the source is the type of the first input that has a floating-point type.
  std::function<Launch(const std::vector<mlx::core::array>&, const Knobs&)> launch;
};

struct Autotune {
  // The values of each knob; the first are the defaults.
  std::vector<std::pair<std::string, std::vector<int64_t>>> knobs;
  // The same of MLX's functions, which read no values.
  std::function<std::vector<mlx::core::array>(const std::vector<mlx::core::array>&)> reference;
  std::vector<std::string> where = {};  // constraints, as "TG * VEC <= 1024"
  // Until a setting is proved, the first values run, which are not proved, and not the reference.
  bool serve_default = false;
  // Sizes that are called are tuned by another process, which waits while the program makes calls.
  bool background = false;
  std::string judge = "bound";        // as `kd tune --judge`
  uint64_t budget = 50;               // settings to try for each size
  std::filesystem::path folder = {};  // where winners are kept; empty: in the user's cache
};

// Calls from several threads are safe. Nothing is tuned but by prepare() and in the background.
// Winners are kept in a
// pack, per device, size and type, and found again by later processes whose kernel, knobs and
// `folder` are the same. MLX_KD_AUTOTUNE=0 switches all of it off, and the reference runs.
class MLX_KD_API Autotuned {
 public:
  // Misuse (room autotune) without knobs, a launch or a reference.
  Autotuned(AutotuneKernel kernel, Autotune options);

  // Lazy. Inputs have axes. Where settings are proved for more sizes than 1024, those without one
  // are not all remembered.
  std::vector<mlx::core::array> operator()(const std::vector<mlx::core::array>& inputs,
                                           mlx::core::StreamOrDevice s = {}) const;

  // Tunes ahead of time by the program kd ($MLX_KD_PROGRAM, next to this library, or in PATH): the
  // arrays of a call for each size, whose values do not matter. Returns settings(). Fails
  // (base::Error) with kd's message where a size cannot be tuned: the kernel is wrong at its
  // defaults, say; what is served does not change then. `budget` 0: that of the options.
  std::vector<std::string> prepare(const std::vector<std::vector<mlx::core::array>>& sizes,
                                   uint64_t budget = 0);

  // "float32 [64, 1024]: TG=128,VEC=4", one for each size with a proved setting.
  std::vector<std::string> settings() const;

  // "float32 [64, 1024]: the kernel is wrong ..", one for each size that could not be tuned in the
  // background and is served as before.
  std::vector<std::string> failures() const;

 private:
  struct MLX_KD_HIDDEN State;
  std::shared_ptr<State> state_;
};

MLX_KD_API Autotuned autotune(AutotuneKernel kernel, Autotune options);

}  // namespace mlx_kd::runtime
