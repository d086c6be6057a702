// The triangles of a Cholesky factor: L, then its transpose. The includer is as triangle.cpu.h
// says.
#pragma once

#define KD_TRIANGLES 2
#include "triangle.cpu.h"

static Stored stored_of(const kd_arguments* a, long each, long which) {
  const long n = a->dims[KD_DIM_n];
  const bool upper = a->dims[KD_DIM_upper] != 0;
  return {(const Float*)a->inputs[0] + each * n * n, n, upper, upper == (which == 0), false};
}
static bool is_unit(const kd_arguments*) {
  return false;
}
