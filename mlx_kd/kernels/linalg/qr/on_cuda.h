// The variant of qr in CUDA C++: small matrices in registers (held.cu.h), tall ones of few columns
// in blocks of rows (tall.cu.h), others by panels (blocked.cu.h).
#pragma once

#include <algorithm>
#include <bit>
#include <numeric>

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/linalg/qr/residuals.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::qr {
namespace on_cuda {

using spec::Dims;
using spec::Dtype;

inline spec::Space space_of(Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {
      {"ROWS", {64, 32}, log2, launch, "rows of a column in a thread's registers at most"},
      linalg::shared_memory()};
  space.knobs.back().role = launch;  // the source does not need it
  return space;
}

// A matrix in the registers of a group: `parts` threads, with `rows` each, have a column.
struct Held {
  int64_t rows, parts, columns, shared_bytes;  // 0 bytes: it is too large
};
inline Held held_of(const Dims& dims, const spec::Setting& knobs) {
  constexpr int64_t kWarp = 32, kLeast = 16;
  const int64_t m = dims.at("m"), n = dims.at("n"), steps = std::min(m, n);
  const auto power = [](int64_t x) {
    return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(x)));
  };
  const int64_t rows = std::clamp(power(m), kLeast, knobs.at("ROWS"));
  const int64_t parts = power(divide_up(m, rows)), in_warp = std::max<int64_t>(kWarp / parts, 1);
  const int64_t columns = divide_up(n, in_warp) * in_warp, most = rows == 64 ? 256 : 512;
  const int64_t floats = steps * (parts * (rows + 4) + 1);
  if (parts > kWarp || parts * columns > most) return {rows, parts, columns, 0};
  return {rows, parts, columns, linalg::shared_bytes(floats, knobs)};
}

// A tall matrix in levels of blocks (tall.cu.h): `height` rows of a block at most.
struct Levels {
  int64_t parts, columns, height;
  std::vector<int64_t> rows, blocks;  // of each level; the last has one block
};
constexpr int64_t kTallColumns = 32, kTallLast = 1 << 8;

inline bool is_tall_on_cuda(const Dims& dims, const Levels& levels) {
  return dims.at("n") <= kTallColumns && dims.at("mode") != kComplete &&
         dims.at("m") > 2 * levels.height;
}

inline Levels levels_of(const Dims& dims) {
  constexpr int64_t kWarp = 32, kMost = 256, kHeld = 64;  // threads; rows of a thread
  const int64_t n = dims.at("n");
  Levels levels = {kWarp, n, 0, {dims.at("m")}, {}};
  while (levels.parts > 1 && levels.parts * levels.columns > kMost) {
    levels.parts /= 2;
    const int64_t in_warp = kWarp / levels.parts;
    levels.columns = divide_up(n, in_warp) * in_warp;
  }
  levels.height = levels.parts * kHeld;
  levels.blocks.push_back(divide_up(levels.rows[0], levels.height));
  while (n <= kTallColumns && levels.blocks.back() > 1) {
    levels.rows.push_back(levels.blocks.back() * n);
    levels.blocks.push_back(divide_up(levels.rows.back(), levels.height));
  }
  return levels;
}

inline std::vector<spec::Stage> tall_stages(const Dims& dims, const Levels& levels) {
  const int64_t batch = dims.at("batch"), n = dims.at("n"), kept = 4 * n * (levels.parts * 68 + 1);
  const auto last = static_cast<int64_t>(levels.rows.size()) - 1;
  std::vector<spec::Stage> stages;
  for (int64_t level = 0; level <= last; ++level) {
    spec::Stage stage{"mlx_kd_qr_tall", {}, level + (level == last ? kTallLast : 0)};
    stage.launch.group = {levels.parts, levels.columns, 1};
    stage.launch.grid = {batch * levels.blocks[static_cast<size_t>(level)] * levels.parts,
                         levels.columns, 1};
    stage.launch.shared_bytes = kept;
    stages.push_back(stage);
  }
  for (int64_t level = last - 1; level >= 0 && dims.at("mode") != kOnlyR; --level) {
    constexpr int64_t kThreads = 256;
    spec::Stage stage{"mlx_kd_qr_join", {}, level + levels.parts * kTallLast};
    stage.launch.group = {kThreads, 1, 1};
    stage.launch.grid = {batch * levels.blocks[static_cast<size_t>(level)] * kThreads, 1, 1};
    stages.push_back(stage);
  }
  return stages;
}

constexpr int64_t kCudaWidth = 32, kCudaTile = 64;  // columns of a panel and of a tile

inline spec::Stage blocked_stage(const std::string& name, const Dims& dims, int64_t threads,
                                 int64_t tiles, int64_t index = 0) {
  spec::Stage stage{"mlx_kd_qr" + name, {}, index};
  stage.launch.group = {threads, 1, 1};
  stage.launch.grid = {threads * dims.at("batch"), tiles, 1};
  return stage;
}

inline std::vector<spec::Stage> stages_of_sizes(const Dims& dims, const spec::Setting& knobs) {
  constexpr int64_t kRows = 8;  // of a group that copies
  const Held held = held_of(dims, knobs);
  if (held.shared_bytes) {
    spec::Stage stage{"mlx_kd_qr_" + std::to_string(held.rows), {}, 0};
    stage.launch.group = {held.parts, held.columns, 1};
    stage.launch.grid = {held.parts * dims.at("batch"), held.columns, 1};
    stage.launch.shared_bytes = held.shared_bytes;
    return {stage};
  }
  if (const Levels levels = levels_of(dims); is_tall_on_cuda(dims, levels))
    return tall_stages(dims, levels);
  const int64_t m = dims.at("m"), steps = std::min(m, dims.at("n")), tall = q_columns(dims);
  const int64_t columns = divide_up(dims.at("n"), kCudaWidth) * kCudaWidth;
  std::vector<spec::Stage> stages = {blocked_stage("", dims, 512, 1),
                                     blocked_stage("_copy", dims, 256, divide_up(m, kRows))};
  for (int64_t first = 0; first < steps; first += kCudaWidth) {
    stages.push_back(blocked_stage("_panel", dims, 512, 1, first));
    if (const int64_t right = columns - first - kCudaWidth; right > 0)
      stages.push_back(blocked_stage("_columns", dims, 256, divide_up(right, kCudaTile), first));
  }
  stages.push_back(blocked_stage("_r", dims, 256, divide_up(tall, kRows)));
  if (dims.at("mode") != kOnlyR)
    stages.push_back(blocked_stage("_q", dims, 256, divide_up(tall, kCudaTile)));
  return stages;
}

inline std::vector<int64_t> scratch_of(Dtype, const Dims& dims, const spec::Setting& knobs) {
  if (held_of(dims, knobs).shared_bytes) return {0, 0, 0};
  const int64_t batch = dims.at("batch"), m = dims.at("m"), n = dims.at("n");
  if (const Levels levels = levels_of(dims); is_tall_on_cuda(dims, levels)) {
    const int64_t rows = std::accumulate(levels.rows.begin() + 1, levels.rows.end(), int64_t{0});
    return {4 * batch * rows * n, 4 * batch * rows * n, 4 * batch * levels.blocks[0]};
  }
  const auto padded = [](int64_t x) { return divide_up(x, kCudaWidth) * kCudaWidth; };
  return {4 * batch * m * padded(n), 4 * batch * padded(std::min(m, n)) * kCudaWidth, 8 * batch};
}

}  // namespace on_cuda

inline spec::Variant cuda_variant() {
  return {.name = "reflections",
          .language = "cuda",
          .source = kernel_source("linalg/qr/qr.cu"),
          .func_name = "mlx_kd_qr",
          .launch_kind = "cuda_arguments",
          .space = on_cuda::space_of,
          .stages = on_cuda::stages_of_sizes,
          .scratch = on_cuda::scratch_of};
}

}  // namespace mlx_kd::kernels::qr
