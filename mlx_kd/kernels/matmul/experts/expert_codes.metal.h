// clang-format off
// The quantised matrix of one expert, among those of all. It is included below codes.metal.h.
#pragma once
template <class Scales, class Biases>
static Matrix matrix_of_expert(const device uint* codes, const device Scales* scales,
                               const device Biases* biases, uint expert, uint N, uint K, Format format) {
  Matrix matrix = matrix_of(codes, scales, biases);
  const ulong rows = ulong(expert) * N;
  const ulong bytes = rows * (K / format.group) * (format.mode == AFFINE ? uint(sizeof(T)) : 1u);
  matrix.codes += rows * (K * format.bits / 32);
  matrix.scales += bytes;
  if (format.mode == AFFINE) matrix.biases += bytes;
  return matrix;
}
