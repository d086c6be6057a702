#include "mlx_kd/python/bindings.h"

namespace mlx_kd::python {

void add_errors() {
  nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
    try {
      std::rethrow_exception(pointer);
    } catch (const base::Error& error) {
      PyErr_SetString(error.exit_code() == 2 ? PyExc_ValueError : PyExc_RuntimeError, error.what());
    }
  });
}

}  // namespace mlx_kd::python
