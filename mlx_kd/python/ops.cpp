#include "mlx_kd/python/bindings.h"

namespace mlx_kd::python {
namespace {

constexpr const char* kCall = R"(Any operator by its name.

Parameters
----------
op : str
    One of :func:`op_names`; ``"rope"`` is :func:`rope_concat_qk_decode_pos`.
inputs : sequence of mlx.core.array
    The operator's inputs in order; one that is optional and left out is an array of shape ``(0,)``.
params : dict of str to float, optional
    Its scalars and attributes, as ``{"eps": 1e-5}``; those left out have the operator's defaults.
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

void add_ops(nb::module_& m) {
  using namespace nb::literals;
  m.def("call", &runtime::call, "op"_a, "inputs"_a, "params"_a = std::map<std::string, double>{},
        nb::kw_only(), "stream"_a = nb::none(),
        nb::sig("def call(op: str, inputs: collections.abc.Sequence[mlx.core.array], "
                "params: collections.abc.Mapping[str, float] = {}, *, " MLX_KD_STREAM
                ") -> list[mlx.core.array]"),
        kCall);
  m.def("op_names", &runtime::op_names, "The names that :func:`call` takes, in order.");
}

}  // namespace mlx_kd::python
