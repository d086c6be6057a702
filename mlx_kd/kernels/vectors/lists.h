// What the searches in lists of an inverted file have in common. Their inputs end with probes (M,
// P), offsets (L + 1) and ids (N), int64; `probes` is the index of the first of these inputs.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "mlx_kd/kernels/vectors/judge.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::vectors {

// Misuse where queries times probes are more than their order has room for.
void check_pairs(const std::string& op, const spec::Dims& dims);

// Throws where queries (input 0), probes and offsets do not go together; sets dims[0] to M.
void read_lists(const std::string& op, std::span<const spec::ArrayView> in, size_t probes,
                std::span<int64_t> dims);

// Probes without repetition, some of them -1; offsets, with empty lists; ids in random order.
void fill_lists(const spec::FillRequest& request, size_t probes);

// The ratios of all queries, whose outputs are distances and ids. distance(query, list, row).
std::vector<spec::Residual> lists_residuals(
    const spec::JudgedCase& judged, size_t probes, Metric metric,
    const std::function<Distance64(int64_t, int64_t, int64_t)>& distance);

// distances and ids, (M, k).
std::vector<spec::Port> neighbour_ports();

// queries (M, D), those of the vectors in the lists, probes, offsets and labels.
std::vector<spec::Port> list_ports(const std::vector<spec::Port>& vectors);

Metric metric_of(const spec::Dims& dims);

// A CPU variant with the stages <op>_order, <op> and <op>_merge of probes.cpu.h; it lacks its
// space.
spec::Variant lists_variant(const std::string& op);

}  // namespace mlx_kd::kernels::vectors
