// A kernel source, what may be varied in it, and how a call of it is launched.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "mlx_kd/spec/device_id.h"
#include "mlx_kd/spec/dtype.h"
#include "mlx_kd/spec/named_ints.h"
#include "mlx_kd/spec/space.h"

namespace mlx_kd::spec {

// How a kernel is launched. On a CPU: grid[0] units of work (rows, or blocks of elements), group[0]
// units per task, `threads` threads share the tasks (1: the calling thread alone). On a GPU:
// threads per dimension; the grid counts threads as Metal does.
struct Launch {
  std::array<int64_t, 3> grid = {1, 1, 1};
  std::array<int64_t, 3> group = {1, 1, 1};
  int threads = 1;
  int64_t shared_bytes = 0;                    // dynamic shared memory of a group (CUDA)
  std::array<int64_t, 3> cluster = {1, 1, 1};  // groups per cluster (CUDA, sm_90 and later)

  friend bool operator==(const Launch&, const Launch&) = default;
};

// How bulk copies see an array as a matrix of which they take tiles (CUDA, sm_90 and later). It is
// encoded for each call, and passed to the kernel: kernels/common/kd_tensor_maps.h. The array is
// row-major and begins at a multiple of 16 bytes; so must its rows, by `pitch`.
struct TensorMap {
  enum class Array { input, output, scratch } array = Array::input;
  size_t index = 0;                      // of the port, or of the scratch array
  int64_t element_bytes = 2;             // 1, 2, 4 or 8
  std::array<int64_t, 2> size = {1, 1};  // elements of a row, and rows
  int64_t pitch = 1;                     // elements from one row to the next
  std::array<int64_t, 2> box = {1, 1};   // the same of a tile: at most 256
  int64_t swizzle = 0;                   // bytes: 0, 32, 64 or 128; a row of a tile has no more

  friend bool operator==(const TensorMap&, const TensorMap&) = default;
};
inline constexpr size_t kMostTensorMaps = 4;

// One step of a call. Stages run one after the other: each sees all that the stages before it
// wrote.
struct Stage {
  std::string func_name;  // a function of the source
  Launch launch;
  int64_t index = 0;  // passed to the kernel: a block column, a level of a tree
  std::vector<TensorMap> tensor_maps = {};  // at most kMostTensorMaps

  friend bool operator==(const Stage&, const Stage&) = default;
};

// Whether its grid has any; a stage without threads is left out.
bool has_threads(const Stage& stage);

// How the functions of a source take their arguments; its launch_kind says so, which packs carry.
enum class Abi {
  // (inputs, outputs, dims, params, begin, end): C++ of any other launch_kind.
  lists,
  // launch_kind "cpp_arguments", "cuda_arguments": one kd_arguments
  // (kernels/common/kd_arguments.h), as (pointer, begin, end) in C++ and by value in CUDA.
  arguments,
  // Metal: buffers bound by name.
  named,
};
Abi abi_of(const std::string& language, const std::string& launch_kind);

// How zmlx.kd launches the body of a Metal kernel: its packs name the kind in launch_params.
struct BodyLaunch {
  std::string kind = {};  // "rmsnorm_rows_tg"; empty: zmlx.kd has no such kernel
  // Threads of the grid, for groups of `group` threads with `each` elements per thread. The sizes
  // may lack a derived dim: it fails then.
  std::function<int64_t(const Dims&, int64_t group, int64_t each)> threads = {};
  // launch_params say how many elements a thread takes: vec_width, unroll (the knobs VEC, UNROLL).
  bool counts_elements = false;
  bool flat_ports = false;  // the body's arrays have one axis
};

// One source and what may be varied in it.
struct Variant {
  std::string name;         // "rows": unique in its op and language
  std::string language;     // "cpp", "metal", "cuda"
  std::string source;       // the whole file; knobs are macros with #ifndef defaults
  std::string func_name;    // what the object exports: "mlx_kd_rmsnorm"
  std::string launch_kind;  // "cpu_rows": written to launch_params
  std::function<Space(Dtype, const DeviceTraits&)> space;
  // The launch of a variant of one stage, func_name.
  std::function<Launch(const Dims&, const Setting&)> launch;
  // Several stages; replaces `launch`.
  std::function<std::vector<Stage>(const Dims&, const Setting&)> stages = {};
  // Bytes of each scratch array at a size: uninitialised memory that the stages share.
  std::function<std::vector<int64_t>(Dtype, const Dims&, const Setting&)> scratch = {};
  // What it gives up on purpose, with its bound ("x is rounded to int8: 1/127 of the largest |x|");
  // such a variant is searched only with --allow-approximate. Empty: it is exact.
  std::string approximate = {};
  double approximate_terms = 0;  // added to the bound, as a share of S
  BodyLaunch body = {};          // of a Metal variant, where zmlx.kd knows it
  // Sizes that its default setting is meant for: a call without a pin that is to run a default
  // takes the first variant that is meant for its size, before others. Left out: all.
  std::function<bool(const Dims&)> suits = {};
};

// The stages of a call: `stages`, or one of func_name.
std::vector<Stage> stages_of(const Variant& variant, const Dims& dims, const Setting& knobs);
std::vector<int64_t> scratch_of(const Variant& variant, Dtype t, const Dims& dims,
                                const Setting& knobs);

struct Suite {
  std::string name;  // "glm_flash_decode"
  std::vector<Dims> sizes;
};

}  // namespace mlx_kd::spec
