// Elements of rows of codes, scales and biases, by MLX's affine rule. T: the type of an element.
#pragma once

// Element i of a row of codes.
inline float coded(const device uint* codes, const device T* scales, const device T* biases, int i,
                   int bits, int group) {
  const int each = 32 / bits;
  const uint code = (codes[i / each] >> uint(i % each * bits)) & ((1u << uint(bits)) - 1u);
  return float(code) * float(scales[i / group]) + float(biases[i / group]);
}
