#include "mlx_kd/python/bindings.h"

NB_MODULE(_core, m) {
  m.doc() = "The runtime of mlx_kd: operators, settings, telemetry.";
  // MLX registers array, Stream and Device: what takes them comes after.
  nanobind::module_::import_("mlx.core");
  mlx_kd::python::add_errors();
  mlx_kd::python::add_decode_step(m);
  mlx_kd::python::add_metal_kernel(m);
  mlx_kd::python::add_operators(m);
  mlx_kd::python::add_ops(m);
  mlx_kd::python::add_sealed(m);
  mlx_kd::python::add_settings(m);
  mlx_kd::python::add_stats(m);
  mlx_kd::python::add_tuned(m);
  mlx_kd::python::add_wire(m);
}
