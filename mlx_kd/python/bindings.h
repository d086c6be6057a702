// The extension mlx_kd._core: one file a topic, each with one function that adds its part.
//
// A new topic is a new file here, a declaration below and a call in module.cpp. Docstrings are in
// NumPy's form. Thread rule: the module declares that it does without the interpreter's lock, so a
// binding keeps no state of its own.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include "mlx/array.h"
#include "mlx/utils.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/runtime/call/ops.h"
#include "mlx_kd/runtime/state/settings.h"
#include "mlx_kd/runtime/state/stats.h"

namespace mlx_kd::python {

namespace nb = nanobind;
namespace mx = mlx::core;

// base::Error becomes ValueError where the user asked for something that cannot be meant (exit code
// 2), RuntimeError otherwise.
void add_errors();
void add_metal_kernel(nb::module_& m);
void add_ops(nb::module_& m);
void add_settings(nb::module_& m);
void add_stats(nb::module_& m);

// The Python value of a JSON text.
inline nb::object from_json(const std::string& text) {
  return nb::module_::import_("json").attr("loads")(text);
}

}  // namespace mlx_kd::python
