// The operators that pins speed up, as lazy MLX operations.
//
// Each runs the pinned kernel of the call's op, sizes, type and device where there is one, and
// MLX's own operator everywhere else: with pins switched off, without a pack, without a pin for
// this size, for arrays of mixed or other types, in a shapeless trace, in an export, and where a
// pin does not compile. Without a pin the bits are MLX's; with one they keep the op's stated bound,
// and are MLX's bits where the pack's entry says bit_exact. Gradients, vmap and jvp of a pinned
// operation are those of MLX's operators; mx::compile keeps the pin, an exported file holds MLX's
// operators.
//
// Inputs of any layout: what is not row-contiguous is copied. Empty arrays give empty arrays.
//
// Streams: `s` as in MLX; the result is computed on it. A pin serves the device of that stream.
// Threads: any number may call at once. MLX's own rules for streams hold: the default stream
// belongs to a thread.
// Errors: std::invalid_argument, "[rmsnorm] what is wrong, with the shapes", before anything runs;
// base::Error where an environment variable of settings.h has a value that it cannot have.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "mlx/array.h"
#include "mlx/utils.h"
#include "mlx_kd/base/api.h"

namespace mlx_kd::runtime {

namespace mx = mlx::core;

// y = weight * rounded(x * rsqrt(mean(x^2) + eps)) over the last axis, as mx::fast::rms_norm.
// x: [..., D], at least one axis. weight: [D]. eps > 0. Result: as x, of MLX's common type of both.
MLX_KD_API mx::array rmsnorm(const mx::array& x, const mx::array& weight, double eps = 1e-6,
                             mx::StreamOrDevice s = {});

// updated = x + residual, y = rmsnorm(updated, weight, eps); returns {y, updated}.
// x, residual: [..., D], equal shapes. weight: [D]. eps > 0.
MLX_KD_API std::pair<mx::array, mx::array> rmsnorm_residual(const mx::array& x,
                                                            const mx::array& residual,
                                                            const mx::array& weight,
                                                            double eps = 1e-6,
                                                            mx::StreamOrDevice s = {});

// y = gate * sigmoid(gate) * up. gate, up: [..., D], equal shapes, at least one axis.
MLX_KD_API mx::array swiglu(const mx::array& gate, const mx::array& up, mx::StreamOrDevice s = {});

// The decode pack of latent attention: the rope parts are rotated in interleaved pairs and appended
// to the nope parts; returns {q_out, k_out}.
// q_nope [B, H, 1, Dn], q_rope [B, H, 1, Dr], kv_nope [B, 1, 1, Dn], k_rope [B, 1, 1, Dr]; cos and
// sin of the one position: Dr/2 elements, [Dr/2] or with axes of 1 before it. Dr even.
// q_out [B, H, 1, Dn + Dr], k_out [B, 1, 1, Dn + Dr].
MLX_KD_API std::pair<mx::array, mx::array> rope_concat_qk_decode_pos(
    const mx::array& q_nope, const mx::array& q_rope, const mx::array& kv_nope,
    const mx::array& k_rope, const mx::array& cos, const mx::array& sin, mx::StreamOrDevice s = {});

// Any operator by its name (op_names()), with its inputs in order and its numbers by name: those
// that are not given have the op's defaults. call("rmsnorm", {x, w}, {{"eps", 1e-5}}) is rmsnorm;
// "rope" is rope_concat_qk_decode_pos. Throws std::invalid_argument for an unknown op or number and
// a wrong count of inputs.
MLX_KD_API std::vector<mx::array> call(const std::string& op, const std::vector<mx::array>& inputs,
                                       const std::map<std::string, double>& params = {},
                                       mx::StreamOrDevice s = {});

// {"rmsnorm", ...}, by name in order.
MLX_KD_API std::vector<std::string> op_names();

}  // namespace mlx_kd::runtime
