// Keys and values in pages, whatever a row of them holds: what operators share that attend over
// them. Pages are (P, Hk, L, width); key j of batch row b is row j % L of page table[b, j / L].
#pragma once

#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/attention/weighted_rows.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::attention {

// Indices of the ports q (B, Hq, M, Dk), table (B, W), begins (B) and ends (B).
struct PagedPorts {
  size_t q, table, begins, ends;
};

// Heads of at most this width: kernels keep rows on the stack and in threadgroup memory.
inline constexpr int64_t kWidestPaged = 1024;

// Fails (exit 2) for query heads that key heads do not divide.
void check_head_counts(const spec::Dims& dims);

// Of `op`, which throws std::invalid_argument unless table, begins and ends are (B, W), (B), (B).
void check_places(const char* op, const PagedPorts& ports, std::span<const spec::ArrayView> in,
                  int64_t batch, int64_t entries);

// The ports table, begins and ends, and their words.
std::vector<spec::Port> place_ports();
std::vector<spec::DocLine> place_parameters();

// The sizes of attention over all keys that the table has room for.
spec::Dims as_attention(const spec::Dims& dims);

// Pages (P, H, L, X) by a table (B, W) of pages that are there, to (B, H, W L, X).
mlx::core::array gathered(const mlx::core::array& pages, const mlx::core::array& table,
                          const mlx::core::Stream& s);
// The table with the nearest page in the place of one that is not there.
mlx::core::array nearest_pages(const mlx::core::array& table, int pages,
                               const mlx::core::Stream& s);
// Attention over gathered keys and values (B, Hk, W L, D), of `pages` pages of `length`.
mlx::core::array attend_in_mlx(const spec::Op::Arrays& in, const PagedPorts& ports, int pages,
                               int length, const mlx::core::array& keys,
                               const mlx::core::array& values, double scale,
                               const mlx::core::Stream& s);

// Tables, of which some point to pages that are not there where the distribution is special.
void fill_places(const spec::FillRequest& request, const PagedPorts& ports, base::Random& random);

// float32 roundings of a score, and of sums over keys and the powers in them.
struct PagedRoundings {
  double of_score, of_sum;
};
PagedRoundings paged_roundings(const spec::Dims& dims);

// Every row of y in float64; k and v are those of all pages.
spec::Reference64 attend_in_float64(const std::vector<const void*>& in, const PagedPorts& ports,
                                    spec::Dtype t, const spec::Dims& dims, double scale,
                                    const SizedNumbers& k, const SizedNumbers& v);

}  // namespace mlx_kd::kernels::attention
