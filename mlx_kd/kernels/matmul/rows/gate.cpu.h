// The activations of gated products, in float.
#pragma once
#include "../../common/exp2.cpu.h"
#include "../weights/lanes.cpu.h"

// g sigmoid(alpha x)
KD_INLINE Floats times_sigmoid(Floats g, Floats x, float alpha) {
  x *= alpha;
  x = x > 87.0f ? all(87.0f) : x < -87.0f ? all(-87.0f) : x;
  const Power power = power_of_two(-x, 0x1.715476p0f);
  return g / (1.0f + power.scale * (1.0f + power.more));
}

// g sigmoid(g), or g sigmoid(2 sqrt(2 / pi) (g + 0.044715 g^3)), which is the tanh form of GELU.
[[maybe_unused]] static Floats activated(Floats g, long activation) {
  Floats x = g;
  if (activation == 1) x = 1.5957691216f * (g + 0.044715f * (g * g * g));
  return times_sigmoid(g, x, 1.0f);
}
