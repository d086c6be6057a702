// What the ranks of a cluster run write, and where. DIR is --out, on every rank's own disk or on
// one that they share:
//
//   DIR/                      rank 0: the run of its device, with the records of all ranks of that
//                             device; best_kernels.json has the winners of all devices
//   DIR/devices/TAG/          rank 0: the same of each other device
//   DIR/ranks/RANK-TAG/       rank RANK: what it measured itself, each record flushed at once
//   DIR/finished.json         rank 0, last of all: {ranks, devices, evaluated, seconds,
//   finished_at}.
//                             Missing: the run did not end well, whatever the launcher's exit code.
//
// All but finished.json are run directories (archive/run/run_writer.h).
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "mlx_kd/archive/run/run_writer.h"
#include "mlx_kd/discover/cluster/introduction.h"

namespace mlx_kd::discover {

// `first`: the device of rank 0.
std::filesystem::path device_folder(const std::filesystem::path& out, const Kind& kind, bool first);
std::filesystem::path rank_folder(const std::filesystem::path& out, const Kind& kind, int rank);

// Whether a cluster run has written here.
bool has_ranks(const std::filesystem::path& out);

archive::RunWriter open_folder(const std::filesystem::path& dir, bool resume,
                               const archive::RunMeta& meta);

// Records of that device in the folders of ranks that this machine sees, in an order of their own,
// without those of candidates in `known`; one of each candidate.
std::vector<archive::Record> left_behind(const std::filesystem::path& out, const Kind& kind,
                                         std::set<std::string> known);

void remove_finished(const std::filesystem::path& out);
void write_finished(const std::filesystem::path& out, const base::OrderedJson& what);

}  // namespace mlx_kd::discover
