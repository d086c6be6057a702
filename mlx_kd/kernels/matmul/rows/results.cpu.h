// Where results of products go, and rows of a matrix as two streams.
#pragma once
#include "rows.cpu.h"

// Where rows of one matrix go: y (M, columns), the product rounded, then its sum with the bias,
// then that with the residual, as MLX rounds them.
struct Results {
  T* y;
  long columns;
  const T* bias;      // (columns), or null
  const T* residual;  // (M, columns), or null

  void put(long m, long row, long count, Floats product) const {
    Floats value = rounded_lanes(product);
    if (bias) value = rounded_lanes(value + float_lanes(take_some<Elements>(bias + row, count)));
    if (residual) value += float_lanes(take_some<Elements>(residual + m * columns + row, count));
    const Elements result = element_lanes(value);
    __builtin_memcpy(y + m * columns + row, &result, count * sizeof(T));
  }
};

KD_INLINE Floats upper_lanes(Floats x) {
  Floats result = {};
  for (long i = 0; i < kBatch; ++i) result[i] = x[kBatch + i];
  return result;
}

// Rows [begin, end) of a matrix: its two halves are the two streams. `to` takes products as Results
// do; product(streams, rows of each, last rows, sink) makes them.
template <class To, class Product>
static void put_halves(const Matrix& w, long begin, long end, const To& to,
                       const Product& product) {
  const long half = (end - begin + 1) / 2;
  const long last[2] = {begin + half - 1, end - 1};
  const auto sink = [&](long m, long first, long second, Floats sums) {
    const long left[2] = {last[0] + 1 - first, last[1] + 1 - second};
    if (left[0] > 0) to.put(m, first, left[0] < kBatch ? left[0] : kBatch, sums);
    if (left[1] > 0) to.put(m, second, left[1] < kBatch ? left[1] : kBatch, upper_lanes(sums));
  };
  Stream streams[2] = {{w, begin}, {w, begin + half}};
  product(streams, half, last, sink);
}

template <class To>
static void put_rows(const Shape& shape, const Prepared& x, const Matrix& w, long begin, long end,
                     const To& to) {
  put_halves(w, begin, end, to,
             [&](Stream(&streams)[2], long count, const long(&last)[2], const auto& sink) {
               two_streams(shape, x, streams[0], streams[1], count, last, sink);
             });
}
