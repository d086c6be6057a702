// qembedding: rows of a matrix that is quantised as MLX stores it, as elements of T.
//
// inputs ids (M) uint32; w, scales, biases (V, ...); output y (M, K). w = scale code + bias,
// rounded once; NaN where an id is not below V, for which nothing is read. A unit is a row of y.
#include "../rows/knobs.cpu.h"
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_V 1
#define KD_DIM_K 2
#define KD_DIM_bits 3
#define KD_DIM_group 4
#define KD_DIM_mode 5
#endif

#include "../../common/kd_arguments.h"
#include "../weights/codes.cpu.h"

static void put_row(const Shape& shape, const Matrix& row, T* y) {
  for (long first = 0; first < shape.groups; first += kLanes) {
    const Floats scales = scales_at(shape, row.scales, first);
    const Floats biases = shape.format == kAffine ? values_at(row.biases + first * long(sizeof(T)),
                                                              shape.groups - first)
                                                  : Floats{};
    const long count = shape.groups - first < kLanes ? shape.groups - first : kLanes;
    KD_TURNS
    for (long g = 0; g < count; ++g) {
      float codes[kMostGroup];
      const long from = (first + g) * shape.group;
      floats_of(shape, row.codes, from, shape.group, codes);
      for (long j = 0; j < shape.group; j += kLanes) {
        const Elements part = element_lanes(take<Floats>(codes + j) * scales[g] + biases[g]);
        __builtin_memcpy(y + from + j, &part, sizeof part);
      }
    }
  }
}

extern "C" void mlx_kd_qembedding(const kd_arguments* a, long begin, long end) {
  const Shape shape = shape_of(1, a->dims[KD_DIM_K], a->dims[KD_DIM_bits], a->dims[KD_DIM_group],
                               a->dims[KD_DIM_mode]);
  const unsigned* const ids = (const unsigned*)a->inputs[0];
  for (long i = begin; i < end; ++i) {
    T* const y = (T*)a->outputs[0] + i * shape.k;
    const long id = ids[i];
    if (id < a->dims[KD_DIM_V]) {
      const long scales = id * shape.scale_bytes;
      const unsigned char* const biases = (const unsigned char*)a->inputs[3];
      put_row(shape,
              {(const unsigned char*)a->inputs[1] + id * shape.row_bytes, nullptr,
               (const unsigned char*)a->inputs[2] + scales,
               shape.format == kAffine ? biases + scales : nullptr},
              y);
    } else {
      put_nan(y, shape.k);
    }
  }
}
