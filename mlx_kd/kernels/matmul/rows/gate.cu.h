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

// (clip(up, -7, 7) + 1) g sigmoid(1.702 g), g at most 7: the gate of gpt-oss.
static __device__ float gated_oai(float g, float up) {
  g = g > 7.0f ? 7.0f : g;
  up = up > 7.0f ? 7.0f : up < -7.0f ? -7.0f : up;
  return times_sigmoid(g, 1.702f * g) * (up + 1.0f);
}

// Of chosen experts: activation 2 is that of gpt-oss.
static __device__ float gated(float g, float up, int activation) {
  return activation == 2 ? gated_oai(g, up) : activated(g, activation) * up;
}
