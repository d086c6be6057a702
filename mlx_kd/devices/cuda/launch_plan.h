// What a kernel in CUDA C++ is launched with: its ports, and the stages and numbers of one size.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "mlx/array.h"
#include "mlx_kd/devices/cuda/gpu.h"
#include "mlx_kd/devices/device.h"

namespace mlx_kd::devices::cuda {

// The element types of ports; the numbers are those of KD_TYPE_<port>.
enum class ElementType : int { float32, float16, bfloat16, int32, uint32, int64, uint8, boolean };

// "float32", ..., "bool". Misuse for another name.
ElementType parse_element_type(const std::string& name);
std::string name_of(ElementType type);
mlx::core::Dtype mlx_type(ElementType type);

struct PlanPort {
  std::string name;
  ElementType type = ElementType::float32;
  bool strided = false;  // an input that is taken as it lies, if its last axis is contiguous
  int updates = -1;      // an output: the input whose memory it takes over, or -1
};

// Stages run one after the other; each sees all that the stages before it wrote.
struct PlanStage {
  std::string func_name;
  // Threads per dimension. Groups are whole: threads beyond the grid run as well.
  std::array<int64_t, 3> grid = {1, 1, 1}, group = {1, 1, 1};
  int64_t shared_bytes = 0;                    // dynamic shared memory of a group
  std::array<int64_t, 3> cluster = {1, 1, 1};  // groups per cluster (sm_90 and later)
  int64_t index = 0;                           // kd_arguments.stage
  bool operator==(const PlanStage&) const = default;
};

struct LaunchPlan {
  spec::Dims dims;              // complete
  std::vector<double> scalars;  // in the operator's order
  std::vector<PlanStage> stages;
  std::vector<int64_t> scratch_bytes = {};
  // Of inputs, then outputs, as kd_arguments has them. For launches on raw memory: calls on arrays
  // of MLX take those of the arrays.
  std::vector<std::array<int64_t, 4>> strides = {};
  bool operator==(const LaunchPlan&) const = default;
};

// A call of one stage.
LaunchPlan plan_of(const Call& call, const std::string& func_name);

// What a function allows, by the driver.
struct FunctionLimits {
  int most_threads = 1024;  // per group, by its registers
  int static_bytes = 0;     // of shared memory
  int64_t group_bytes = 0;  // of shared memory that the chip gives a group
  int sm = 90;
};

// Blocks and threads of a stage. Misuse, naming the operator, the function and the value, for a
// size that the chip or the function does not take: threads or blocks per axis, threads per group,
// shared memory, clusters.
LaunchSize stage_size(const std::string& op_name, const PlanStage& stage,
                      const FunctionLimits& limits);

}  // namespace mlx_kd::devices::cuda
