// The gates of products with chosen experts: those of gate.cpu.h, and that of gpt-oss.
#pragma once
#include "expert_arrays.cpu.h"
#include "../rows/gate.cpu.h"

// act(gate) * up of rounded products. Activation 2: (clip(up, -7, 7) + 1) g sigmoid(1.702 g), g at
// most 7.
static Floats gated(Floats gate, Floats up, long activation) {
  if (activation != 2) return activated(gate, activation) * up;
  gate = gate > 7.0f ? all(7.0f) : gate;
  up = up > 7.0f ? all(7.0f) : up < -7.0f ? all(-7.0f) : up;
  return times_sigmoid(gate, gate, 1.702f) * (up + 1.0f);
}

// Of a batch of both streams: kBatch lanes of the gate and of up, for rows from one on.
static Elements gated_batch(Floats products, const T* const (&biases)[2], long row, long count,
                            long activation) {
  products = rounded_lanes(products);
  if (biases[0]) {
    T added[kLanes] = {};
    for (int i = 0; i < 2; ++i)
      __builtin_memcpy(added + i * kBatch, biases[i] + row, count * sizeof(T));
    products = rounded_lanes(products + float_lanes(take<Elements>(added)));
  }
  return element_lanes(gated(products, upper_lanes(products), activation));
}
