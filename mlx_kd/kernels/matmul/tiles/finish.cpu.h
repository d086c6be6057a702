// What happens to the sums of a product before they are stored: alpha, C, the bias, the activation.
#pragma once
#include "../../common/kd_arguments.h"
#include "../rows/gate.cpu.h"
#include "../weights/lanes.cpu.h"

// y = act(alpha sum + beta c + bias) of one product, in floats, rounded once.
struct Finish {
  T* y;  // (rows, columns), row-major
  long columns;
  const T* c;     // null: none
  long c_stride;  // of a row; columns are neighbours
  const T* bias;  // (columns); null: none
  float alpha, beta;
  long activation;  // 0 none, 1 ReLU, 2 SiLU, 3 the tanh form of GELU

  Floats value(long row, long column, long count, Floats sums) const {
    Floats x = sums * alpha;
    if (c) x += beta * float_lanes(some(c + row * c_stride + column, count));
    if (bias) x += float_lanes(some(bias + column, count));
    if (activation == 1) x = x > 0.0f || x != x ? x : Floats{};
    if (activation > 1) x = activated(x, activation - 2);
    return x;
  }
  // Columns [column, column + count) of a row, count <= kLanes.
  void put(long row, long column, long count, Floats sums) const {
    const Elements made = element_lanes(value(row, column, count, sums));
    T* const to = y + row * columns + column;
    if (count == kLanes)
      __builtin_memcpy(to, &made, sizeof made);
    else
      __builtin_memcpy(to, &made, count * sizeof(T));
  }
  // Whether sums are rounded and no more.
  bool is_plain() const { return !c && !bias && activation == 0 && alpha == 1.0f; }
  void put_plain(long row, long column, Floats sums) const {
    const Elements made = element_lanes(sums);
    __builtin_memcpy(y + row * columns + column, &made, sizeof made);
  }
  static Elements some(const T* from, long count) {
    return count == kLanes ? take<Elements>(from) : take_some<Elements>(from, count);
  }
};
