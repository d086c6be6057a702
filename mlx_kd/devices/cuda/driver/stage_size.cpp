#include "mlx_kd/devices/cuda/driver/stage_size.h"

#include "mlx_kd/base/error.h"

namespace mlx_kd::devices::cuda {
namespace {

constexpr std::array<int64_t, 3> kMostPerAxis = {1024, 1024, 64};
constexpr std::array<int64_t, 3> kMostBlocks = {2147483647, 65535, 65535};
constexpr int64_t kMostClusterBlocks = 16;
constexpr int kFirstWithClusters = 90;
const char* const kAxisNames[] = {"x", "y", "z"};

std::string sizes(const std::array<int64_t, 3>& size) {
  return std::to_string(size[0]) + " x " + std::to_string(size[1]) + " x " +
         std::to_string(size[2]);
}

[[noreturn]] void refuse(const std::string& op_name, const spec::Stage& stage,
                         const std::string& what) {
  base::misuse("devices", "'" + stage.func_name + "' of '" + op_name + "' " + what);
}

void check_axes(const std::string& op_name, const spec::Stage& stage) {
  for (size_t d = 0; d < 3; ++d) {
    const int64_t grid = stage.launch.grid[d], group = stage.launch.group[d];
    const std::string where = std::string(" in ") + kAxisNames[d];
    if (grid < 1 || group < 1)
      refuse(op_name, stage,
             "is launched with " + std::to_string(grid) + " threads in groups of " +
                 std::to_string(group) + where + ": give at least 1");
    if (group > kMostPerAxis[d])
      refuse(op_name, stage,
             "is launched in groups of " + std::to_string(group) + " threads" + where +
                 ": the chip takes " + std::to_string(kMostPerAxis[d]));
    const int64_t blocks = (grid + group - 1) / group;
    if (blocks > kMostBlocks[d])
      refuse(op_name, stage,
             "is launched in " + std::to_string(blocks) + " groups" + where + ": the chip takes " +
                 std::to_string(kMostBlocks[d]) + "; give larger groups");
  }
}

void check_cluster(const std::string& op_name, const spec::Stage& stage, const LaunchSize& size,
                   int sm) {
  const auto& [x, y, z] = stage.launch.cluster;
  if (x == 1 && y == 1 && z == 1) return;
  const std::string text =
      "is launched in clusters of " + sizes(stage.launch.cluster) + " groups: ";
  if (sm < kFirstWithClusters)
    refuse(op_name, stage, text + "sm_" + std::to_string(sm) + " has none");
  if (x < 1 || y < 1 || z < 1 || x > kMostClusterBlocks || y > kMostClusterBlocks ||
      z > kMostClusterBlocks || x * y * z > kMostClusterBlocks)
    refuse(op_name, stage, text + "give 1 to " + std::to_string(kMostClusterBlocks));
  for (size_t d = 0; d < 3; ++d)
    if (size.blocks[d] % stage.launch.cluster[d] != 0)
      refuse(op_name, stage,
             text + "its " + std::to_string(size.blocks[d]) + " groups in " + kAxisNames[d] +
                 " are not a multiple");
}

void check_group(const std::string& op_name, const spec::Stage& stage,
                 const FunctionLimits& limits) {
  const int64_t threads = stage.launch.group[0] * stage.launch.group[1] * stage.launch.group[2];
  if (threads > 1024)
    refuse(op_name, stage,
           "is launched in groups of " + sizes(stage.launch.group) + " = " +
               std::to_string(threads) + " threads: the chip takes 1024");
  if (threads > limits.most_threads)
    refuse(op_name, stage,
           "is launched in groups of " + std::to_string(threads) +
               " threads and keeps so many registers that " + std::to_string(limits.most_threads) +
               " fit: state __launch_bounds__(" + std::to_string(threads) + ")");
  const int64_t most = limits.group_bytes - limits.static_bytes;
  if (stage.launch.shared_bytes < 0 || stage.launch.shared_bytes > most)
    refuse(op_name, stage,
           "asks for " + std::to_string(stage.launch.shared_bytes) + " bytes of shared memory" +
               (limits.static_bytes
                    ? " besides the " + std::to_string(limits.static_bytes) + " that it declares"
                    : "") +
               ": the chip gives a group " + std::to_string(limits.group_bytes));
}

}  // namespace

LaunchSize stage_size(const std::string& op_name, const spec::Stage& stage,
                      const FunctionLimits& limits) {
  check_axes(op_name, stage);
  check_group(op_name, stage, limits);
  LaunchSize size;
  for (size_t d = 0; d < 3; ++d) {
    size.threads[d] = static_cast<unsigned>(stage.launch.group[d]);
    size.blocks[d] = static_cast<unsigned>((stage.launch.grid[d] + stage.launch.group[d] - 1) /
                                           stage.launch.group[d]);
  }
  check_cluster(op_name, stage, size, limits.sm);
  return size;
}

}  // namespace mlx_kd::devices::cuda
