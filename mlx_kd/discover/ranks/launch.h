// Who started this process, and as which rank of how many.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mlx_kd::discover {

struct Launch {
  std::string backend;  // of MLX: "ring" or "mpi"
  int rank = 0;
  int size = 1;
  // Ring: where rank 0 listens, an IPv4 address, and this rank's own addresses and ports.
  std::string address;
  std::vector<std::pair<std::string, uint16_t>> own;
};

// A variable of the environment; nullptr where it is not set.
using Environment = std::function<const char*(const char*)>;

// Nothing where no launcher started this process, or one that started it alone. Misuse (room
// discover) where what the environment says makes no sense: two launchers at once, one that MLX
// cannot be started by, a rank beyond the hosts, a hosts file that cannot be read.
std::optional<Launch> find_launch(const Environment& environment);

// Before the group is opened: a port that is taken (ring), Open MPI's library missing (mpi) is
// misuse (room discover) that names it. Sets MLX_MPI_LIBNAME where Debian's run-time package alone
// is there.
void prepare(const Launch& launch);

}  // namespace mlx_kd::discover
