#include "mlx_kd/runtime/call/metal_kernel.h"

#include <nanobind/stl/tuple.h>

#include "mlx/ops.h"
#include "mlx_kd/python/bindings.h"

namespace mlx_kd::python {
namespace {

struct MetalKernel {
  mx::fast::CustomKernelFunction function;
};

using Scalar = std::variant<mx::array, bool, int, float>;

constexpr const char* kMetalKernel = R"(A kernel in the Metal Shading Language, on any device.

Takes what ``mx.fast.metal_kernel`` takes and gives what it gives. On a CPU stream the kernel runs on
all cores with Metal's threads, threadgroups, barriers and simd functions; on NVIDIA it is translated
to CUDA; on a Mac's GPU it is MLX's own. It is compiled when it is first called, once per process, and
kept on disk.

Parameters
----------
name : str
    Name of the kernel: letters, digits, ``_``.
input_names, output_names : sequence of str
    The names that the arrays have in `source`.
source : str
    The body of the kernel; the function around it is made from the names and the arrays.
header : str
    Text in front of the function.
ensure_row_contiguous : bool
    Whether inputs that are not row-contiguous are copied first.
atomic_outputs : bool
    Whether outputs are ``device atomic<T>*``.
compile_options : dict, optional
    ``{"math_mode": "safe" | "relaxed" | "fast"}``. Off a Mac, fast defines ``__FAST_MATH__``; math is as
    precise as the source asks in all three.
check : str, optional
    What is watched at the first call with each size, on a CPU: ``"races,memory"``, one of them, or
    ``"none"``; None: what :func:`enable_metal_kernels` or ``MLX_KD_METAL_CHECK`` says.

Returns
-------
callable
    ``kernel(inputs=, output_shapes=, output_dtypes=, grid=, threadgroup=, template=None,
    init_value=None, verbose=False, stream=None)``, which returns the list of outputs, lazily. `grid`
    counts threads.

Raises
------
ValueError
    Where MLX raises one, and for what Metal does not allow, with file, line and column of the Metal
    text (the files are called ``kd_body`` and ``kd_header``); on the call, not when an output is
    evaluated.

Notes
-----
A kernel has no gradient of its own: wrap it in ``mx.custom_function`` and give a vjp, as around MLX's
own. ``mx.vmap`` works on a CPU, one call per entry.)";

constexpr const char* kCallKernel = R"(Call the kernel; see :func:`metal_kernel`.)";

mx::CompileOptions options_of(const std::optional<nb::object>& given) {
  mx::CompileOptions options;
  if (!given || given->is_none()) return options;
  if (!nb::isinstance<nb::dict>(*given))
    throw nb::type_error("[metal_kernel] Expected `compile_options` to be a dict.");
  for (const auto& [key, value] : nb::cast<nb::dict>(*given)) {
    const auto name = nb::cast<std::string>(nb::str(key));
    if (name != "math_mode")
      throw std::invalid_argument("[metal_kernel] Unknown compile option `" + name + "`.");
    const auto mode = nb::cast<std::string>(nb::str(value));
    if (mode == "safe")
      options.math_mode = mx::MathMode::Safe;
    else if (mode == "relaxed")
      options.math_mode = mx::MathMode::Relaxed;
    else if (mode == "fast")
      options.math_mode = mx::MathMode::Fast;
    else
      throw std::invalid_argument(
          "[metal_kernel] Expected math_mode to be 'safe', 'relaxed', or 'fast'.");
  }
  return options;
}

mx::array to_array(const Scalar& given) {
  if (const auto* array = std::get_if<mx::array>(&given)) return *array;
  if (const auto* truth = std::get_if<bool>(&given)) return mx::array(*truth);
  if (const auto* number = std::get_if<int>(&given)) return mx::array(*number);
  return mx::array(std::get<float>(given), mx::float32);
}

// bool first: Python's True is an int as well.
mx::fast::TemplateArg template_arg(const std::string& name, const nb::object& value) {
  if (nb::isinstance<bool>(value)) return nb::cast<bool>(value);
  if (nb::isinstance<int>(value)) return nb::cast<int>(value);
  if (nb::isinstance<mx::Dtype>(value)) return nb::cast<mx::Dtype>(value);
  throw std::invalid_argument("[metal_kernel] Template argument `" + name +
                              "`: Invalid template argument. Must be `mlx.core.Dtype`, `int` or "
                              "`bool`.");
}

using Template = std::vector<std::pair<std::string, nb::object>>;
using Sizes = std::tuple<int, int, int>;

std::vector<mx::array> call(const MetalKernel& kernel, const std::vector<Scalar>& inputs,
                            const std::vector<std::vector<int>>& output_shapes,
                            const std::vector<mx::Dtype>& output_dtypes, Sizes grid,
                            Sizes threadgroup, const std::optional<Template>& templates,
                            std::optional<float> init_value, bool verbose,
                            mx::StreamOrDevice stream) {
  std::vector<mx::array> arrays;
  std::vector<mx::Shape> shapes;
  for (const auto& shape : output_shapes) shapes.emplace_back(shape.begin(), shape.end());
  for (const Scalar& one : inputs) arrays.push_back(to_array(one));
  std::vector<std::pair<std::string, mx::fast::TemplateArg>> arguments;
  if (templates)
    for (const auto& [name, value] : *templates)
      arguments.emplace_back(name, template_arg(name, value));
  nb::gil_scoped_release while_compiling;
  return kernel.function(arrays, shapes, output_dtypes, grid, threadgroup, arguments, init_value,
                         verbose, stream);
}

MetalKernel make(const std::string& name, const std::vector<std::string>& input_names,
                 const std::vector<std::string>& output_names, const std::string& source,
                 const std::string& header, bool ensure_row_contiguous, bool atomic_outputs,
                 const std::optional<nb::object>& compile_options,
                 const std::optional<std::string>& check) {
  std::optional<runtime::KernelChecks> checks;
  if (check) checks = runtime::parse_kernel_checks(*check);
  return {runtime::metal_kernel(name, input_names, output_names, source, header,
                                ensure_row_contiguous, atomic_outputs, options_of(compile_options),
                                checks)};
}

void watch_kernels(const std::string& checks, const std::string& order, uint64_t seed,
                   double budget_s, bool print) {
  runtime::KernelChecks parsed = runtime::parse_kernel_checks(checks);
  parsed.order = order;
  parsed.seed = seed;
  parsed.budget_s = budget_s;
  parsed.print = print;
  runtime::check_metal_kernels(parsed);
}

nb::list take_reports() {
  nb::list list;
  for (const runtime::KernelReport& one : runtime::take_kernel_reports()) {
    nb::dict entry;
    entry["kernel"] = one.kernel;
    entry["grid"] = std::tuple(one.grid[0], one.grid[1], one.grid[2]);
    entry["threadgroup"] = std::tuple(one.threadgroup[0], one.threadgroup[1], one.threadgroup[2]);
    entry["threadgroups"] = one.groups;
    entry["watched"] = one.watched;
    entry["findings"] = one.findings;
    entry["note"] = one.note;
    list.append(entry);
  }
  return list;
}

}  // namespace

void add_metal_kernel(nb::module_& m) {
  using namespace nb::literals;
  nb::class_<MetalKernel>(m, "MetalKernel", "What :func:`metal_kernel` returns.")
      .def("__call__", &call, nb::kw_only(), "inputs"_a, "output_shapes"_a, "output_dtypes"_a,
           "grid"_a, "threadgroup"_a, "template"_a = nb::none(), "init_value"_a = nb::none(),
           "verbose"_a = false, "stream"_a = nb::none(),
           nb::sig("def __call__(self, *, inputs: collections.abc.Sequence[bool | int | float | "
                   "mlx.core.array], output_shapes: "
                   "collections.abc.Sequence[collections.abc.Sequence[int]], output_dtypes: "
                   "collections.abc.Sequence[mlx.core.Dtype], grid: tuple[int, int, int], "
                   "threadgroup: tuple[int, int, int], template: "
                   "collections.abc.Sequence[tuple[str, bool | int | mlx.core.Dtype]] | None = "
                   "None, init_value: float | None = None, verbose: bool = False, stream: "
                   "mlx.core.Stream | mlx.core.Device | None = None) -> list[mlx.core.array]"),
           kCallKernel);
  m.def("metal_kernel", &make, "name"_a, "input_names"_a, "output_names"_a, "source"_a,
        "header"_a = "", "ensure_row_contiguous"_a = true, "atomic_outputs"_a = false,
        "compile_options"_a = nb::none(), "check"_a = nb::none(),
        nb::sig("def metal_kernel(name: str, input_names: collections.abc.Sequence[str], "
                "output_names: collections.abc.Sequence[str], source: str, header: str = '', "
                "ensure_row_contiguous: bool = True, atomic_outputs: bool = False, "
                "compile_options: dict[str, str] | None = None, check: str | None = None) -> "
                "MetalKernel"),
        kMetalKernel);
  m.def("_watch_kernels", &watch_kernels, "checks"_a, "order"_a = "forward", "seed"_a = 0,
        "budget_s"_a = 1.0, "print"_a = true, "What is watched from now on, in this process.");
  m.def("_take_reports", &take_reports,
        nb::sig("def _take_reports() -> list[dict[str, typing.Any]]"),
        "What came of watching since this was called last.");
}

}  // namespace mlx_kd::python
