#include "mlx_kd/discover/ranks/launch.h"

#include <dlfcn.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/discover/ranks/connection.h"
#include "mlx_kd/discover/ranks/protocol.h"

namespace mlx_kd::discover {
namespace {

constexpr uint64_t kMaxHostsFile = 16 << 20;

int number_in(const char* name, const char* text) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || value < 0 || value > kMaxRanks)
    base::misuse("discover", std::string(name) + " is '" + std::string(text).substr(0, 40) +
                                 "', which is not a number from 0 to " + std::to_string(kMaxRanks) +
                                 ": start the ranks with mlx.launch or mpirun");
  return static_cast<int>(value);
}

[[noreturn]] void refuse_hosts(const std::string& path, const std::string& why) {
  base::misuse("discover", "the hosts in " + path + " (MLX_HOSTFILE) cannot be used (" + why +
                               "): start the ranks with mlx.launch --backend ring");
}

std::pair<std::string, uint16_t> parse_host(const std::string& path, const std::string& text) {
  const size_t colon = text.rfind(':');
  uint16_t port = 0;
  const char* const end = text.data() + text.size();
  if (colon == std::string::npos || colon == 0 ||
      std::from_chars(text.data() + colon + 1, end, port).ptr != end || port == 0)
    refuse_hosts(path, "'" + text.substr(0, 80) + "' is not ADDRESS:PORT");
  return {text.substr(0, colon), port};
}

using Hosts = std::vector<std::vector<std::pair<std::string, uint16_t>>>;

// [["ip:port", ...], ...], a list a rank; empty where mlx.launch started one rank alone.
Hosts read_hosts(const std::string& path) {
  const std::string text = base::read_file(path, "discover", kMaxHostsFile);
  Hosts hosts;
  if (text.find_first_not_of(" \r\n\t") == std::string::npos) return hosts;
  const base::Json ranks = base::parse_json(text, "discover", path);
  if (!ranks.is_array()) refuse_hosts(path, "they are not a list with a list of each rank");
  for (const base::Json& rank : ranks) {
    const std::string number = std::to_string(hosts.size());
    auto& own = hosts.emplace_back();
    if (!rank.is_array() || rank.empty()) refuse_hosts(path, "rank " + number + " has no list");
    for (const base::Json& host : rank) {
      if (!host.is_string()) refuse_hosts(path, "a host of rank " + number + " is not text");
      own.push_back(parse_host(path, host.get_ref<const std::string&>()));
    }
  }
  return hosts;
}

// Two ranks cannot listen at one port of one address.
void refuse_twice(const std::string& path, const Hosts& hosts) {
  for (size_t a = 0; a < hosts.size(); ++a)
    for (size_t b = 0; b < a; ++b)
      for (const auto& one : hosts[a])
        for (const auto& other : hosts[b])
          if (one == other)
            refuse_hosts(path, "ranks " + std::to_string(b) + " and " + std::to_string(a) +
                                   " are both to listen at " + one.first + ":" +
                                   std::to_string(one.second));
}

std::optional<Launch> ring_launch(const Environment& environment, const char* rank) {
  const char* const path = environment("MLX_HOSTFILE");
  if (!path)
    base::misuse(
        "discover",
        std::string("MLX_RANK is '") + std::string(rank).substr(0, 40) +
            "' and MLX_HOSTFILE is not set: start the ranks with mlx.launch --backend ring, "
            "or unset MLX_RANK");
  const Hosts hosts = read_hosts(path);
  if (hosts.size() > kMaxRanks) refuse_hosts(path, std::to_string(hosts.size()) + " ranks");
  const int own = number_in("MLX_RANK", rank), size = std::max(1, static_cast<int>(hosts.size()));
  if (own >= size)
    base::misuse("discover", "this is rank " + std::to_string(own) + " and " + std::string(path) +
                                 " has hosts for " + std::to_string(size) +
                                 ": start the ranks with mlx.launch and one hosts file for all");
  if (size == 1) return std::nullopt;
  refuse_twice(path, hosts);
  Launch launch{"ring", own, size, hosts[0][0].first, {}};
  launch.own = hosts[static_cast<size_t>(launch.rank)];
  return launch;
}

std::optional<Launch> mpi_launch(const Environment& environment, const char* size) {
  const char* const rank = environment("OMPI_COMM_WORLD_RANK");
  const Launch launch{"mpi",
                      rank ? number_in("OMPI_COMM_WORLD_RANK", rank) : 0,
                      number_in("OMPI_COMM_WORLD_SIZE", size),
                      "",
                      {}};
  if (launch.size <= 1) return std::nullopt;
  return launch;
}

}  // namespace

std::optional<Launch> find_launch(const Environment& environment) {
  const char* const ring = environment("MLX_RANK");
  const char* const mpi = environment("OMPI_COMM_WORLD_SIZE");
  if (ring && mpi)
    base::misuse(
        "discover",
        "mpirun and mlx.launch both started this process (OMPI_COMM_WORLD_SIZE and MLX_RANK "
        "are set): use one of them");
  if (mpi) return mpi_launch(environment, mpi);
  if (const char* size = environment("PMI_SIZE"); size && number_in("PMI_SIZE", size) > 1)
    base::misuse("discover",
                 "this process was started by an mpirun that is not Open MPI's (PMI_SIZE is set), "
                 "which MLX cannot use: install openmpi-bin, or use mlx.launch --backend ring");
  if (!ring) return std::nullopt;
  if (environment("NCCL_HOST_IP") || environment("MLX_JACCL_COORDINATOR"))
    base::misuse("discover",
                 "the ranks of kd run exchange results over the ring or Open MPI: start them with "
                 "mlx.launch --backend ring");
  return ring_launch(environment, ring);
}

void prepare(const Launch& launch) {
  for (const auto& [address, port] : launch.own)
    if (port_is_taken(address, port))
      base::misuse("discover", "port " + std::to_string(port) + " of " + address +
                                   ", at which rank " + std::to_string(launch.rank) +
                                   " is to listen, is taken: give mlx.launch another "
                                   "--starting-port, or wait for the other run to end");
  if (launch.backend != "mpi" || std::getenv("MLX_MPI_LIBNAME")) return;
  for (const char* name : {"libmpi.so", "libmpi.so.40", "libmpi.dylib"}) {
    void* const found = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    if (!found) continue;
    dlclose(found);
    setenv("MLX_MPI_LIBNAME", name, 0);
    return;
  }
  base::misuse("discover",
               "mpirun started " + std::to_string(launch.size) +
                   " ranks and there is no libmpi for MLX to load: install libopenmpi3 (Debian; "
                   "libopenmpi3t64 on Ubuntu), or name Open MPI's library in MLX_MPI_LIBNAME");
}

}  // namespace mlx_kd::discover
