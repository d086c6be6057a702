// The functions of mlx::core::linalg with its names, arguments and returns, on our operators:
// batches, every device. A program changes `using namespace mlx::core::linalg` to `using namespace
// mlx_kd::linalg`.
//
// float32 runs our operators by pins or default settings, float64 does on a CPU, and types of 16
// bits are computed in float32 and rounded once. What they do not take (complex numbers, singular
// values and eigenvectors of more than 512 columns, empty arrays) goes to MLX's function, which may
// throw. A matrix that fails is NaN and the rest of its batch is right; the operators themselves
// return info (ops.h). Results have no gradients; Python's mlx_kd.linalg does.
//
// Lazy, computed on `s`. Errors: std::invalid_argument for shapes that do not go together.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "mlx/linalg.h"
#include "mlx_kd/base/api.h"

namespace mlx_kd::runtime::linalg {

namespace mx = mlx::core;

using mx::linalg::cross;
using mx::linalg::eig;
using mx::linalg::eigvals;
using mx::linalg::norm;

MLX_KD_API std::pair<mx::array, mx::array> qr(const mx::array& a, mx::StreamOrDevice s = {});

// U, the singular values and V^T, or these values alone.
MLX_KD_API std::vector<mx::array> svd(const mx::array& a, bool compute_uv,
                                      mx::StreamOrDevice s = {});
inline std::vector<mx::array> svd(const mx::array& a, mx::StreamOrDevice s = {}) {
  return svd(a, true, s);
}

MLX_KD_API mx::array inv(const mx::array& a, mx::StreamOrDevice s = {});
MLX_KD_API mx::array tri_inv(const mx::array& a, bool upper = false, mx::StreamOrDevice s = {});
MLX_KD_API mx::array cholesky(const mx::array& a, bool upper = false, mx::StreamOrDevice s = {});
MLX_KD_API mx::array cholesky_inv(const mx::array& a, bool upper = false,
                                  mx::StreamOrDevice s = {});
MLX_KD_API mx::array pinv(const mx::array& a, mx::StreamOrDevice s = {});

// The order of the rows, L and U: row order[i] of L U is row i of a.
MLX_KD_API std::vector<mx::array> lu(const mx::array& a, mx::StreamOrDevice s = {});
MLX_KD_API std::pair<mx::array, mx::array> lu_factor(const mx::array& a, mx::StreamOrDevice s = {});

// b is [..., n, k], or [..., n].
MLX_KD_API mx::array solve(const mx::array& a, const mx::array& b, mx::StreamOrDevice s = {});
MLX_KD_API mx::array solve_triangular(const mx::array& a, const mx::array& b, bool upper = false,
                                      mx::StreamOrDevice s = {});

MLX_KD_API std::pair<mx::array, mx::array> eigh(const mx::array& a, std::string UPLO = "L",
                                                mx::StreamOrDevice s = {});
MLX_KD_API mx::array eigvalsh(const mx::array& a, std::string UPLO = "L",
                              mx::StreamOrDevice s = {});
MLX_KD_API mx::array det(const mx::array& a, mx::StreamOrDevice s = {});
MLX_KD_API std::pair<mx::array, mx::array> slogdet(const mx::array& a, mx::StreamOrDevice s = {});

}  // namespace mlx_kd::runtime::linalg
