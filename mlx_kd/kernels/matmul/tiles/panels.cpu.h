// y = x W^T (+ bias) (+ residual) of many rows of x.
#pragma once
#include "../rows/single.cpu.h"
#include "tiles.cpu.h"

// A unit is a block of kTileRows rows of x.
static void prepare_blocks(const kd_arguments* a, long begin, long end) {
  const Shape shape = shape_of(a);
  const Prepared to = prepared_of(a);
  const T* const x = (const T*)a->inputs[0];
  const T* const norm = a->dims[KD_DIM_has_norm] ? (const T*)a->inputs[kNorm] : nullptr;
  for (long first = begin * kTileRows; first < end * kTileRows; first += kTileRows) {
    for (long row = first; row < first + kTileRows && row < shape.m; ++row)
      finished_row(shape, x + row * shape.k, norm, float(a->scalars[KD_SCALAR_eps]), row, to);
    const T* const rows = norm ? to.x : x;
    pack_block(
        shape, [&](long row) { return rows + row * shape.k; }, first, to);
  }
}

// A unit is a panel of kTileColumns rows of W.
static void put_panels(const kd_arguments* a, long begin, long end) {
  const long columns = a->dims[KD_DIM_N];
  const Shape shape = shape_of(a);
  const Prepared x = prepared_of(a);
  const Matrix w = matrix_of(a, 0, columns);
  const Results to = results_of(a);
  const auto sink = [&](long row, long column, Floats sums) {
    to.put(row, column, columns - column < kLanes ? columns - column : kLanes, sums);
  };
  for (long panel = begin; panel < end; ++panel)
    panel_product(shape, x, w, panel * kTileColumns, columns, sink);
}
