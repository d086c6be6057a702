// Small candidates in Metal with several stages, scratch memory, strides, outputs of several types
// and updates in place: what every device that takes Metal must compute.
#pragma once

#include "mlx_kd/devices/device.h"

namespace mlx_kd::devices {

inline base::Json port_json(const std::string& name, const std::string& dtype,
                            const spec::Shape& shape) {
  return {{"name", name}, {"dtype", dtype}, {"shape", shape}, {"strides", "contiguous"}};
}

inline spec::Stage stage_of(const std::string& name, std::array<int64_t, 3> grid,
                            std::array<int64_t, 3> group, int64_t index = 0) {
  spec::Stage stage;
  stage.func_name = name;
  stage.launch.grid = grid;
  stage.launch.group = group;
  stage.index = index;
  return stage;
}

// x [rows, D] (strided) -> the index of the largest scale * x of each row (uint32) and that product
// (float32). Stage 1 looks at blocks of 4 columns, stage 2 at what stage 1 left in scratch memory.
inline constexpr const char* kPickText = R"(#include <metal_stdlib>
using namespace metal;
typedef float T;
constant uint kBlock = 4;
static float scaled(float x, float by) {
  return by * x;
}
kernel void pick_blocks(const device T* x, const constant long* x_strides,
                        device float* scratch0, device uint* scratch1, constant int& D,
                        constant float& scale,
                        uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint block = thread_position_in_grid.x, row = thread_position_in_grid.y;
  const uint first = kBlock * block, end = min(first + kBlock, uint(D));
  float most = -INFINITY;
  uint at = first;
  for (uint i = first; i < end; ++i) {
    const float v = scaled(x[row * x_strides[0] + i], scale);
    if (v > most) {
      most = v;
      at = i;
    }
  }
  const uint blocks = (D + 3) / 4;
  scratch0[row * blocks + block] = most;
  scratch1[row * blocks + block] = at;
}
[[max_total_threads_per_threadgroup(32)]] [[kernel]] void pick_rows(const device float* scratch0, const device uint* scratch1,
                      device uint* token, device float* best, constant int& D,
                      uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint row = thread_position_in_grid.x, blocks = (D + 3) / 4;
  uint from = row * blocks;
  for (uint i = from + 1; i < (row + 1) * blocks; ++i)
    if (scratch0[i] > scratch0[from]) from = i;
  token[row] = scratch1[from];
  best[row] = scratch0[from];
}
)";

inline spec::Candidate pick_candidate(const std::string& text = kPickText) {
  spec::Candidate made;
  made.op_name = "pick";
  made.language = "metal";
  made.func_name = "pick_rows";
  made.launch_params = {{"launch_kind", "metal_pick"}};
  made.inputs_spec = {port_json("x", "float32", {2, 5})};
  made.outputs_spec = {port_json("token", "uint32", {2}), port_json("best", "float32", {2})};
  made.source = text;
  return made;
}

inline Call pick_call(int64_t rows, int64_t d, double scale = 1) {
  const int64_t blocks = (d + 3) / 4;
  Call call;
  call.dims = {{"rows", rows}, {"D", d}};
  call.scalars = {scale};
  call.scalar_names = {"scale"};
  call.stages = {stage_of("pick_blocks", {blocks, rows, 1}, {32, 1, 1}),
                 stage_of("pick_rows", {rows, 1, 1}, {32, 1, 1})};
  call.inputs = {{{rows, d}, spec::Dtype::float32}};
  call.outputs = {{{rows}, spec::Dtype::uint32}, {{rows}, spec::Dtype::float32}};
  call.scratch = {4 * rows * blocks, 4 * rows * blocks};
  call.strided = {true};
  return call;
}

// cache [rows, C], x [rows] -> the cache with x added to the columns offset, offset + 1, ..., one a
// stage, and to column 0 what is in the last of them. All else keeps its bits.
inline constexpr const char* kAddText = R"(#include <metal_stdlib>
using namespace metal;
typedef float T;
kernel void add_column(const device T* x, device T* added, constant int& C, constant int& offset,
                       constant int& stage_index,
                       uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint row = thread_position_in_grid.x;
  added[row * C + offset + stage_index] += x[row];
}
kernel void sum_up(const device T* cache, device T* added, constant int& C, constant int& offset,
                   constant int& stage_index,
                   uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint row = thread_position_in_grid.x;
  added[row * C] += cache[row * C + offset + stage_index - 1];
}
)";

inline spec::Candidate add_candidate() {
  spec::Candidate made;
  made.op_name = "add";
  made.language = "metal";
  made.func_name = "add_column";
  made.launch_params = {{"launch_kind", "metal_add"}};
  made.inputs_spec = {port_json("cache", "float32", {2, 5}), port_json("x", "float32", {2})};
  made.outputs_spec = {port_json("added", "float32", {2, 5})};
  made.source = kAddText;
  return made;
}

inline Call add_call(int64_t rows, int64_t c, int64_t offset) {
  Call call;
  call.dims = {{"rows", rows}, {"C", c}};
  call.scalars = {double(offset)};
  call.scalar_names = {"offset"};
  for (int64_t i = 0; i < 2; ++i)
    call.stages.push_back(stage_of("add_column", {rows, 1, 1}, {32, 1, 1}, i));
  call.stages.push_back(stage_of("sum_up", {rows, 1, 1}, {32, 1, 1}, 2));
  call.inputs = {{{rows, c}, spec::Dtype::float32}, {{rows}, spec::Dtype::float32}};
  call.outputs = {{{rows, c}, spec::Dtype::float32}};
  call.updates = {0};
  return call;
}

// The numbers of a test: no two of a row are equal.
inline std::vector<float> some_numbers(int64_t count) {
  std::vector<float> result(static_cast<size_t>(count));
  for (size_t i = 0; i < result.size(); ++i)
    result[i] = static_cast<float>((i * 7919 + 13) % 1009) - 500.0f;
  return result;
}

struct Picked {
  std::vector<uint32_t> token;
  std::vector<float> best;
  friend bool operator==(const Picked&, const Picked&) = default;
};

inline Picked expected_pick(const std::vector<float>& x, int64_t rows, int64_t d, float scale = 1) {
  Picked result;
  for (int64_t r = 0; r < rows; ++r) {
    int64_t at = 0;
    for (int64_t i = 1; i < d; ++i)
      if (scale * x[size_t(r * d + i)] > scale * x[size_t(r * d + at)]) at = i;
    result.token.push_back(static_cast<uint32_t>(at));
    result.best.push_back(scale * x[size_t(r * d + at)]);
  }
  return result;
}

inline std::vector<float> expected_add(std::vector<float> cache, const std::vector<float>& x,
                                       int64_t rows, int64_t c, int64_t offset) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < 2; ++i) cache[size_t(r * c + offset + i)] += x[size_t(r)];
    cache[size_t(r * c)] += cache[size_t(r * c + offset + 1)];
  }
  return cache;
}

inline std::shared_ptr<Program> loaded(const Device& device, const spec::Candidate& candidate) {
  const Artifact made = device.compile(candidate, 60);
  if (!made.ok) throw std::runtime_error(made.error);
  return device.load(made, candidate);
}

// Program::launch on a row-major x, or on one whose rows are `gap` elements apart.
inline Picked launch_pick(const Program& program, int64_t rows, int64_t d, float scale = 1,
                          int64_t gap = 0) {
  Call call = pick_call(rows, d, scale);
  const std::vector<float> x = some_numbers(rows * d);
  std::vector<float> laid(static_cast<size_t>(rows * (d + gap)), NAN);
  for (int64_t r = 0; r < rows; ++r)
    std::copy_n(x.begin() + r * d, d, laid.begin() + r * (d + gap));
  if (gap > 0) call.inputs[0].strides = {d + gap, 1};
  Picked made{std::vector<uint32_t>(size_t(rows), 77), std::vector<float>(size_t(rows), 77)};
  program.launch({laid.data()}, {made.token.data(), made.best.data()}, call);
  return made;
}

inline std::vector<float> launch_add(const Program& program, int64_t rows, int64_t c,
                                     int64_t offset) {
  std::vector<float> cache = some_numbers(rows * c);
  const std::vector<float> x = some_numbers(rows);
  program.launch({cache.data(), x.data()}, {cache.data()}, add_call(rows, c, offset));
  return cache;
}

struct StagedSize {
  int64_t rows, columns;
};
// The first is that of the candidates' specs; among the others are larger and smaller ones, and
// arrays of fewer than 8 elements.
inline constexpr StagedSize kStagedSizes[] = {{2, 5}, {3, 64}, {40, 7}, {1, 1001}, {1, 3}};

}  // namespace mlx_kd::devices
