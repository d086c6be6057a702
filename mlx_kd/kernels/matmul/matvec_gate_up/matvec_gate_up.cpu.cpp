// matvec_gate_up: y = act(x Wg^T) * (x Wu^T) for few rows of x, W as MLX stores it.
//
// Inputs x (M, K); w of the gate, then of up; norm (K); output y (M, N). The two products are
// rounded, the rest is float32.
//
// Stage mlx_kd_matvec_gate_up: a unit is a row of x, which is normalised where there is a norm and
// put in the order in which the codes of W lie. Stage mlx_kd_matvec_gate_up_rows: a unit is a row
// of both matrices.
#include "../rows/knobs.cpu.h"
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_N 1
#define KD_DIM_K 2
#define KD_DIM_activation 3
#define KD_DIM_has_norm 4
#define KD_SCALAR_eps 0
#endif
#define QUANTISED 0

#include "../rows/gated.cpu.h"

extern "C" void mlx_kd_matvec_gate_up(const kd_arguments* a, long begin, long end) {
  prepare(a, kNorm, begin, end);
}

extern "C" void mlx_kd_matvec_gate_up_rows(const kd_arguments* a, long begin, long end) {
  put_gated(a, begin, end);
}
