#include "mlx_kd/runtime/tuning/tuned.h"

#include "mlx_kd/python/bindings.h"

namespace mlx_kd::python {
namespace {

constexpr const char* kTuned = R"(A kernel of ``kd tune`` with the settings that its run found.

Parameters
----------
path : str
    Folder of a run, or a pack.
name : str
    Name of the kernel, where a pack holds several.

Raises
------
ValueError
    If nothing in `path` can run here: no winners, another device, another MLX.)";

constexpr const char* kCallTuned = R"(Call the kernel.

Parameters
----------
inputs : sequence of mlx.core.array
    Its inputs, in order.
stream : mlx.core.Stream or mlx.core.Device, optional
    Where it runs; the default stream of the kernel's device if left out.

Returns
-------
list of mlx.core.array
    Its outputs, lazily.

Raises
------
ValueError
    If no setting is proved for the sizes or the type of the arrays; the message lists those that are.)";

constexpr const char* kCallKey =
    R"(What tells calls of a function apart: the types and shapes of its arrays, as bytes.

Parameters
----------
*arrays : mlx.core.array
    The arrays.

Raises
------
ValueError
    For what is not an array.)";

// As many numbers as there are axes, and one more for each array.
nb::bytes call_key(const nb::args& arrays) {
  constexpr size_t kMost = 64;
  int32_t key[kMost];
  size_t count = 0;
  for (const nb::handle given : arrays) {
    if (!nb::isinstance<mx::array>(given))
      throw std::invalid_argument("[autotune] its functions take arrays of MLX, and one got a " +
                                  nb::cast<std::string>(nb::str(given.type().attr("__name__"))));
    const auto& array = *nb::inst_ptr<mx::array>(given);
    if (count + array.ndim() + 1 > kMost)
      throw std::invalid_argument("[autotune] the arrays have more than 63 axes together");
    key[count++] = -1 - static_cast<int32_t>(array.dtype().val());
    for (const auto extent : array.shape()) key[count++] = extent;
  }
  return nb::bytes(reinterpret_cast<const char*>(key), count * sizeof key[0]);
}

}  // namespace

void add_tuned(nb::module_& m) {
  using namespace nb::literals;
  nb::class_<runtime::Tuned>(m, "Tuned", "What :func:`tuned` returns.")
      .def(
          "__call__",
          [](const runtime::Tuned& kernel, const std::vector<mx::array>& inputs,
             mx::StreamOrDevice stream) {
            nb::gil_scoped_release while_compiling;
            return kernel(inputs, stream);
          },
          "inputs"_a, nb::kw_only(), "stream"_a = nb::none(),
          nb::sig("def __call__(self, inputs: collections.abc.Sequence[mlx.core.array], *, stream: "
                  "mlx.core.Stream | mlx.core.Device | None = None) -> list[mlx.core.array]"),
          kCallTuned)
      .def_prop_ro("name", &runtime::Tuned::name, "Name of the operator.")
      .def_prop_ro("settings", &runtime::Tuned::settings,
                   "One line for each size: its type, its size and its knobs.");
  m.def("call_key", &call_key, nb::sig("def call_key(*arrays: mlx.core.array) -> bytes"), kCallKey);
  m.def(
      "tuned",
      [](const std::string& path, const std::string& name) { return runtime::Tuned(path, name); },
      "path"_a, "name"_a = "", nb::sig("def tuned(path: str, name: str = '') -> Tuned"), kTuned);
}

}  // namespace mlx_kd::python
