// New rows (B, H, M, D) that go into pages (P, H, L, D) by slot: row slot % L of page slot / L. A
// row whose slot is negative or from P L on is not written.
#pragma once

#include "mlx_kd/base/random.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels {

// The port `slots` (B, M), and its words.
spec::Port slots_port();
spec::DocLine slots_parameter();
// Of `op`, which throws std::invalid_argument unless slots are (B, M).
void check_slots(const char* op, const spec::ArrayView& slots, int64_t batch, int64_t added);

// Rows of all heads of all pages.
int64_t rows_of_pages(const spec::Dims& dims);

// Calls visit(row among the new ones, row among those of the pages) for each that has a slot; both
// are counted by head.
template <class Visit>
void each_row_in_slot(const void* slots, const spec::Dims& dims, const Visit& visit) {
  const int64_t added = dims.at("M"), heads = dims.at("Hk"), length = dims.at("L");
  for (int64_t i = 0; i < dims.at("B") * added; ++i) {
    const int64_t slot = spec::load_integer(slots, i, spec::Dtype::int32);
    if (slot < 0 || slot >= dims.at("P") * length) continue;
    for (int64_t h = 0; h < heads; ++h)
      visit((i / added * heads + h) * added + i % added,
            (slot / length * heads + h) * length + slot % length);
  }
}

// Different from each other where there are enough; some are outside in special cases.
void fill_slots(const spec::FillRequest& request, size_t port, base::Random& random);

// Pages with new rows (B, H, M, X) in their slots (B, M).
mlx::core::array written_to_slots(const mlx::core::array& pages, const mlx::core::array& added,
                                  const mlx::core::array& slots, const mlx::core::Stream& s);

}  // namespace mlx_kd::kernels
