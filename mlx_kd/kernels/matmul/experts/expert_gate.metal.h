// clang-format off
// The gates of products with chosen experts: those of gated.metal.h, and with activation 2 that of
// gpt-oss, (clip(up, -7, 7) + 1) g sigmoid(1.702 g), g at most 7.
#pragma once
#include "../rows/gated.metal.h"

static float gated(float gate, float up, int activation) {
  if (activation != 2) return activated(gate, activation) * up;
  const float g = gate > 7.0f ? 7.0f : gate;
  const float clipped = up > 7.0f ? 7.0f : up < -7.0f ? -7.0f : up;
  return times_sigmoid(g, 1.702f * g) * (clipped + 1.0f);
}
