// qembedding: rows of a matrix that is quantised as MLX stores it, as elements of T.
//
// A thread takes a unit of a row, as codes.metal.h says. Rows of an id that is not below V are NaN,
// and nothing is read for them. Of `like` the type alone counts.
//
// Grid: at least M * K / 32 threads in x, with nvfp4 M * K / 16, in threadgroups of any size.
#include <metal_stdlib>
using namespace metal;

#include "../weights/codes.metal.h"

template <uint Bits, uint Mode>
static void put_unit(Matrix w, ulong row, uint K, uint group, uint unit, device T* y) {
  constexpr uint columns = Mode == NVFP4 ? 16 : 32;
  constexpr uint count = columns * Bits / 32;  // words
  const Words<count> words = words_of<count>(w.codes + (row * (K / columns) + unit) * count);
  const ulong at = row * (K / group) + unit * columns / group;
  const float scale = scale_of<Mode>(w.scales, at);
  const float bias = Mode == AFFINE ? element_of(w.biases, at) : 0.0f;
#pragma unroll
  for (uint c = 0; c < columns; ++c)
    y[unit * columns + c] = T(scale * value_of<Bits, Mode>(code_of<Bits>(words, c)) + bias);
}

[[kernel]] void mlx_kd_qembedding(
    const device uint* ids [[buffer(0)]],
    const device uint* w [[buffer(1)]],
    const device uchar* scales [[buffer(2)]],
    const device uchar* biases [[buffer(3)]],
    const device T* like [[buffer(4)]],
    device T* y [[buffer(5)]],
    constant int& M [[buffer(6)]],
    constant int& V [[buffer(7)]],
    constant int& K [[buffer(8)]],
    constant int& bits [[buffer(9)]],
    constant int& group [[buffer(10)]],
    constant int& mode [[buffer(11)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint columns = mode == NVFP4 ? 16 : 32;
  const uint units = uint(K) / columns;
  const uint row = thread_position_in_grid.x / units;
  const uint unit = thread_position_in_grid.x % units;
  if (row >= uint(M)) return;
  const uint id = ids[row];
  device T* to = y + ulong(row) * uint(K);
  if (id >= uint(V)) {
    for (uint c = 0; c < columns; ++c) to[unit * columns + c] = T(NAN);
    return;
  }
  const Matrix matrix = matrix_of(w, scales, biases);
  if (mode == MXFP4) put_unit<4, MXFP4>(matrix, id, uint(K), uint(group), unit, to);
  else if (mode == MXFP8) put_unit<8, MXFP8>(matrix, id, uint(K), uint(group), unit, to);
  else if (mode == NVFP4) put_unit<4, NVFP4>(matrix, id, uint(K), uint(group), unit, to);
  else if (bits == 2) put_unit<2, AFFINE>(matrix, id, uint(K), uint(group), unit, to);
  else if (bits == 3) put_unit<3, AFFINE>(matrix, id, uint(K), uint(group), unit, to);
  else if (bits == 4) put_unit<4, AFFINE>(matrix, id, uint(K), uint(group), unit, to);
  else if (bits == 5) put_unit<5, AFFINE>(matrix, id, uint(K), uint(group), unit, to);
  else if (bits == 6) put_unit<6, AFFINE>(matrix, id, uint(K), uint(group), unit, to);
  else put_unit<8, AFFINE>(matrix, id, uint(K), uint(group), unit, to);
}
