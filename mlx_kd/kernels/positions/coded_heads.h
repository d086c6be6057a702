// New heads whose keys and values are quantised into a cache of codes: what the operators share
// that write one. Their inputs begin with codes, scales and biases of keys, then of values; q, k
// and v follow.
//
// Codes of rotated keys depend on the last bit of a rotation, so they are judged by the numbers
// that they stand for; values are judged bit by bit, and so are rows that are not written.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/positions/appended_heads.h"

namespace mlx_kd::kernels {

inline constexpr size_t kCodedArrays = 6;  // of a cache
inline constexpr size_t kCodedQ = kCodedArrays, kCodedK = kCodedQ + 1, kCodedV = kCodedK + 1;

// complete_heads, for bits, group_size and widths that go together; fails (exit 2) for others.
spec::Dims complete_coded_heads(const spec::Dims& dims);

// The first three axes of the cache's arrays, and what its rows are.
struct CodedCacheSize {
  int64_t first, heads, length, d, dv, bits, group;
};
// Throws std::invalid_argument where the code, the widths or the shapes do not go together.
void check_coded_cache(const PortShapes& shapes, std::span<const spec::ArrayView> in,
                       const CodedCacheSize& size);
// Of bits and group_size alone, before shapes can be read.
void check_code(const char* op, int64_t bits, int64_t group);

// The ports of the cache, (B, Hk, S, ..) or pages (P, Hk, L, ..), and its outputs with q_out.
std::vector<spec::Port> coded_cache_ports(bool in_pages);
std::vector<spec::Port> coded_cache_outputs(bool in_pages);
// head_attributes() with bits and group_size.
std::vector<spec::Dim> coded_head_attributes();

spec::Cost cost_of_coded_append(const spec::Dims& dims, spec::Dtype dtype);

// In Metal: stages for the queries, and for keys and values, in this order.
spec::Space metal_coded_space(spec::Dtype dtype, const spec::DeviceTraits& traits);
std::vector<spec::Stage> metal_coded_stages(const std::string& function, const spec::Dims& dims,
                                            const spec::Setting& knobs);

// Of new row (b Hk + h) M + t: the row of the cache, by head, that it goes to; -1: none.
struct CodedPlaces {
  int64_t rows;  // of the cache
  std::vector<int64_t> of_new;
};

// What is there: any bits. What is new: numbers, since codes of others mean nothing; queries are of
// all kinds. `offset` is that port; `rows` as CodedPlaces has them.
void fill_coded_append(const spec::FillRequest& request, size_t offset, int64_t rows,
                       base::Random& random);
// The reference of q_out, after outputs that have none.
std::vector<spec::Reference64> turned_queries(const std::vector<const void*>& in, size_t offset,
                                              spec::Dtype dtype, const spec::Dims& dims,
                                              const std::vector<double>& scalars);
// The values, as Op::exact.
void append_coded_values(const std::vector<const void*>& in, spec::Dtype t, const spec::Dims& dims,
                         const CodedPlaces& places, const std::vector<void*>& outputs);
// Of the keys, as Op::residuals.
std::vector<spec::Residual> residuals_of_coded_keys(const spec::JudgedCase& judged, size_t offset,
                                                    const CodedPlaces& places);

}  // namespace mlx_kd::kernels
