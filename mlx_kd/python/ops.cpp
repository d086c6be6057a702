#include "mlx_kd/python/bindings.h"

namespace mlx_kd::python {
namespace {

constexpr const char* kRmsnorm = R"(Root-mean-square norm over the last axis, times a weight.

``y = weight * (x / sqrt(mean(x ** 2) + eps))``, as ``mx.fast.rms_norm``.

Parameters
----------
x : mlx.core.array
    Shape ``(..., D)``, at least one axis.
weight : mlx.core.array
    Shape ``(D,)``.
eps : float
    Positive.
stream : mlx.core.Stream or mlx.core.Device, optional
    Where to compute; MLX's default if left out.

Returns
-------
mlx.core.array
    Shape as `x`, in MLX's common type of `x` and `weight`.

Raises
------
ValueError
    If a shape or `eps` does not fit; the message shows both shapes.)";

constexpr const char* kRmsnormResidual = R"(A residual sum and its norm, in one pass.

Parameters
----------
x, residual : mlx.core.array
    Shape ``(..., D)`` both.
weight : mlx.core.array
    Shape ``(D,)``.
eps : float
    Positive.
stream : mlx.core.Stream or mlx.core.Device, optional
    Where to compute; MLX's default if left out.

Returns
-------
tuple of two mlx.core.array
    ``(rmsnorm(x + residual, weight, eps), x + residual)``, shapes as `x`.

Raises
------
ValueError
    If shapes or `eps` do not fit; the message shows both shapes.)";

constexpr const char* kSwiglu = R"(The gate of a Llama-like feed-forward layer.

``gate * sigmoid(gate) * up``, element by element.

Parameters
----------
gate, up : mlx.core.array
    Shape ``(..., D)`` both, at least one axis.
stream : mlx.core.Stream or mlx.core.Device, optional
    Where to compute; MLX's default if left out.

Returns
-------
mlx.core.array
    Shape as `gate`, in MLX's common type of both.

Raises
------
ValueError
    If the shapes differ; the message shows both.)";

constexpr const char* kRope = R"(Query and key of one decoding step of latent attention (MLA).

The rope parts are rotated in interleaved pairs, ``(a, b) -> (a c - b s, a s + b c)``, and appended
to the nope parts.

Parameters
----------
q_nope : mlx.core.array
    Shape ``(B, H, 1, D_nope)``.
q_rope : mlx.core.array
    Shape ``(B, H, 1, D_rope)``, `D_rope` even.
kv_nope : mlx.core.array
    Shape ``(B, 1, 1, D_nope)``.
k_rope : mlx.core.array
    Shape ``(B, 1, 1, D_rope)``.
cos, sin : mlx.core.array
    ``D_rope / 2`` elements each, of the one position.
stream : mlx.core.Stream or mlx.core.Device, optional
    Where to compute; MLX's default if left out.

Returns
-------
tuple of two mlx.core.array
    ``q`` of shape ``(B, H, 1, D_nope + D_rope)``, ``k`` of shape ``(B, 1, 1, D_nope + D_rope)``.

Raises
------
ValueError
    If shapes do not fit, `D_rope` is odd, or there is more than one position.)";

constexpr const char* kCall = R"(Any operator by its name.

Parameters
----------
op : str
    One of :func:`op_names`; ``"rope"`` is :func:`rope_concat_qk_decode_pos`.
inputs : sequence of mlx.core.array
    The operator's inputs in order.
params : dict of str to float, optional
    Its numbers, as ``{"eps": 1e-5}``; those left out have the operator's defaults.
stream : mlx.core.Stream or mlx.core.Device, optional
    Where to compute; MLX's default if left out.

Returns
-------
list of mlx.core.array
    The operator's outputs.

Raises
------
ValueError
    If there is no such operator or number, or the inputs do not fit.)";

}  // namespace

#define MLX_KD_STREAM \
  "stream: mlx.core.Stream | mlx.core.Device | mlx.core.DeviceType | None = None"
#define MLX_KD_PAIR "tuple[mlx.core.array, mlx.core.array]"

void add_ops(nb::module_& m) {
  using namespace nb::literals;
  m.def("rmsnorm", &runtime::rmsnorm, "x"_a, "weight"_a, "eps"_a = 1e-6, nb::kw_only(),
        "stream"_a = nb::none(),
        nb::sig("def rmsnorm(x: mlx.core.array, weight: mlx.core.array, eps: float = 1e-06, "
                "*, " MLX_KD_STREAM ") -> mlx.core.array"),
        kRmsnorm);
  m.def(
      "rmsnorm_residual", &runtime::rmsnorm_residual, "x"_a, "residual"_a, "weight"_a,
      "eps"_a = 1e-6, nb::kw_only(), "stream"_a = nb::none(),
      nb::sig("def rmsnorm_residual(x: mlx.core.array, residual: mlx.core.array, "
              "weight: mlx.core.array, eps: float = 1e-06, *, " MLX_KD_STREAM ") -> " MLX_KD_PAIR),
      kRmsnormResidual);
  m.def("swiglu", &runtime::swiglu, "gate"_a, "up"_a, nb::kw_only(), "stream"_a = nb::none(),
        nb::sig("def swiglu(gate: mlx.core.array, up: mlx.core.array, *, " MLX_KD_STREAM
                ") -> mlx.core.array"),
        kSwiglu);
  m.def("rope_concat_qk_decode_pos", &runtime::rope_concat_qk_decode_pos, "q_nope"_a, "q_rope"_a,
        "kv_nope"_a, "k_rope"_a, "cos"_a, "sin"_a, nb::kw_only(), "stream"_a = nb::none(),
        nb::sig("def rope_concat_qk_decode_pos(q_nope: mlx.core.array, q_rope: mlx.core.array, "
                "kv_nope: mlx.core.array, k_rope: mlx.core.array, cos: mlx.core.array, "
                "sin: mlx.core.array, *, " MLX_KD_STREAM ") -> " MLX_KD_PAIR),
        kRope);
  m.def("call", &runtime::call, "op"_a, "inputs"_a, "params"_a = std::map<std::string, double>{},
        nb::kw_only(), "stream"_a = nb::none(),
        nb::sig("def call(op: str, inputs: collections.abc.Sequence[mlx.core.array], "
                "params: collections.abc.Mapping[str, float] = {}, *, " MLX_KD_STREAM
                ") -> list[mlx.core.array]"),
        kCall);
  m.def("op_names", &runtime::op_names, "The names that :func:`call` takes, in order.");
}

}  // namespace mlx_kd::python
