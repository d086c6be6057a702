#include "mlx_kd/python/bindings.h"

namespace mlx_kd::python {
namespace {

constexpr const char* kStats = R"(What the runtime did in this process.

Returns
-------
dict
    ``enabled``, ``files``, ``error``; the counts ``calls`` (= ``hits`` + ``misses`` +
    ``fallbacks`` + ``defaults``, calls of default kernels that :func:`configure` asked for),
    ``compiled``, ``loaded``, ``dropped`` and ``compile_ms``; ``pins``, one dict a
    pin with its ``hits``, ``state`` and ``reason``; ``missed``, one dict for each op, type and size
    without a pin, with the ``nearest`` pin and the fields in which it ``differs``; ``by_default``,
    the ``calls`` of default kernels by op, type and size; ``skipped``, the entries that do not fit
    this process and why.)";

constexpr const char* kExplain =
    R"(Why a call would run what it would run; runs and compiles nothing.

Parameters
----------
op, inputs, params, stream
    As :func:`call`.

Returns
-------
dict
    ``op``, ``dtype``, ``shape`` of the call; ``pinned``; ``by_default``, whether the op's default
    kernel runs as :func:`configure` asked; ``candidate_id`` and ``state`` of the pin; ``reason``,
    one sentence; ``nearest`` and ``differs`` where no pin is there.

Raises
------
ValueError
    As :func:`call`.)";

}  // namespace

void add_stats(nb::module_& m) {
  using namespace nb::literals;
  m.def(
      "stats", [] { return from_json(runtime::to_json(runtime::stats())); },
      nb::sig("def stats() -> dict[str, typing.Any]"), kStats);
  m.def("reset_stats", &runtime::reset_stats, "Sets all counts to 0; pins and settings stay.");
  m.def(
      "explain",
      [](const std::string& op, const std::vector<mx::array>& inputs,
         const std::map<std::string, double>& params, mx::StreamOrDevice stream) {
        return from_json(runtime::to_json(runtime::explain(op, inputs, params, stream)));
      },
      "op"_a, "inputs"_a, "params"_a = std::map<std::string, double>{}, nb::kw_only(),
      "stream"_a = nb::none(),
      nb::sig("def explain(op: str, inputs: collections.abc.Sequence[mlx.core.array], "
              "params: collections.abc.Mapping[str, float] = {}, *, stream: mlx.core.Stream | "
              "mlx.core.Device | mlx.core.DeviceType | None = None) -> dict[str, typing.Any]"),
      kExplain);
  m.def("flush_shape_log", &runtime::flush_shape_log,
        "Writes what the shape log (``MLX_KD_SHAPE_LOG``) still holds.");
}

}  // namespace mlx_kd::python
