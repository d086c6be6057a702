// clang-format off
// Activations of gated products, in float.
#pragma once

// g sigmoid(x). The power is made of two halves, so that none is too small for a float.
static __device__ float times_sigmoid(float g, float x) {
  const float half_power = expf(-0.5f * fabsf(x)), power = half_power * half_power;
  return x < 0.0f ? g * half_power * half_power / (1.0f + power) : g / (1.0f + power);
}

// g sigmoid(g), or with activation 1 g sigmoid(2 sqrt(2 / pi) (g + 0.044715 g^3)), which is the tanh form of
// GELU.
static __device__ float activated(float g, int activation) {
  return times_sigmoid(g, activation == 1 ? 1.5957691216f * (g + 0.044715f * (g * g * g)) : g);
}
