#include "mlx_kd/runtime/tuning/autotune_files.h"

#include <mlx/export.h>
#include <mlx/ops.h>

#include <exception>
#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/devices/metal_text/metal_body.h"
#include "mlx_kd/runtime/tuning/autotune_digest.h"

namespace mlx_kd::runtime {
namespace autotuning {

namespace fs = std::filesystem;
namespace mx = mlx::core;

constexpr size_t kMostSettings = 2048;

static std::string axis_name(size_t input, size_t axis) {
  return "i" + std::to_string(input) + "_" + std::to_string(axis);
}

static std::string port_text(const std::string& name, mx::Dtype dtype, mx::Dtype own,
                             const std::string& axes) {
  return name + (dtype == own ? "" : ": " + type_name(dtype)) + " (" + axes + ")";
}

static std::string ports_text(const AutotuneKernel& kernel, const AutotuneKernel::Launch& first,
                              const std::vector<mx::array>& inputs) {
  std::string text;
  const mx::Dtype own = own_type(inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    std::string axes;
    for (size_t axis = 0; axis < inputs[i].ndim(); ++axis)
      axes += (axis ? ", " : "") + axis_name(i, axis);
    text += "// kd: in " + port_text(kernel.input_names[i], inputs[i].dtype(), own, axes) + "\n";
  }
  for (size_t i = 0; i < kernel.output_names.size(); ++i) {
    std::string axes;
    for (const auto extent : first.output_shapes[i])
      axes += (axes.empty() ? "" : ", ") + std::to_string(extent);
    text +=
        "// kd: out " +
        port_text(kernel.output_names[i], first.output_dtypes[i], own, axes.empty() ? "1" : axes) +
        "\n";
  }
  return text;
}

static std::string knobs_text(const Autotune& options, const Launches& launches) {
  std::string text;
  for (const auto& [name, values] : options.knobs) {
    text += "// kd: knob " + name;
    for (size_t i = 0; i < values.size(); ++i) text += (i ? ", " : " ") + std::to_string(values[i]);
    text += "\n";
  }
  for (const std::string& one : options.where) text += "// kd: where " + one + "\n";
  for (const auto& [knobs, launch] : launches) {
    text += "// kd: launch " + setting_text(knobs);
    for (const auto* sizes : {&launch.grid, &launch.group})
      for (const int64_t size : *sizes) text += " " + std::to_string(size);
    text += "\n";
  }
  return text;
}

// The reference as a graph of MLX with inputs of the type `wide` in the place of T.
static void export_graph(const fs::path& file, const Autotune& options,
                         const std::vector<mx::array>& inputs, mx::Dtype wide) {
  const mx::Dtype own = own_type(inputs);
  std::vector<mx::array> zeros;
  for (const mx::array& input : inputs)
    zeros.push_back(mx::zeros(input.shape(), input.dtype() == own ? wide : input.dtype(),
                              mx::Device(mx::Device::cpu)));
  mx::export_function(file.string(), options.reference, zeros);
}

// In float64 and float32 too if it can be.
static void export_graphs(const fs::path& folder, const AutotuneKernel& kernel,
                          const Autotune& options, const std::vector<mx::array>& inputs) {
  for (const mx::Dtype wide : {mx::float64, mx::float32, own_type(inputs)}) {
    const mx::Device before = mx::default_device();
    mx::set_default_device(mx::Device::cpu);
    std::string error;
    try {
      export_graph(folder / (type_name(wide) + ".mlxfn"), options, inputs, wide);
    } catch (const std::exception& found) {
      error = found.what();
    }
    mx::set_default_device(before);
    if (!error.empty() && wide == own_type(inputs))
      base::misuse("autotune", "the reference of '" + kernel.name + "' has no graph (" + error +
                                   "): write it with functions of MLX that read no values");
  }
}

// As docs/tune-your-own.md describes references; it loads the graph of the type that it is given.
static std::string reference_text(const fs::path& folder, size_t inputs) {
  std::string names;
  for (size_t i = 0; i < inputs; ++i) names += (i ? ", a" : "a") + std::to_string(i);
  return "import mlx.core as mx\n\n_graphs = {}\n\n\ndef reference(" + names +
         "):\n    arrays = [" + names +
         "]\n    wide = next((str(one.dtype).split('.')[-1] for one in arrays if "
         "mx.issubdtype(one.dtype, mx.floating)), 'float32')\n"
         "    if wide not in _graphs:\n        _graphs[wide] = mx.import_function(" +
         base::Json(folder.string()).dump() +
         " + f'/{wide}.mlxfn')\n    made = _graphs[wide](*arrays)\n"
         "    return made if len(made) > 1 else made[0]\n";
}

}  // namespace autotuning

using namespace autotuning;

mx::Dtype own_type(const std::vector<mx::array>& inputs) {
  for (const mx::array& input : inputs)
    if (mx::issubdtype(input.dtype(), mx::floating)) return input.dtype();
  return mx::float32;
}

std::string type_name(mx::Dtype dtype) {
  return devices::dtype_name(dtype);
}

std::string setting_text(const AutotuneKernel::Knobs& knobs) {
  std::string text;
  for (const auto& [name, value] : knobs)
    text += (text.empty() ? "" : ",") + name + "=" + std::to_string(value);
  return text;
}

std::string size_text(const std::vector<mx::array>& inputs) {
  std::string text;
  for (size_t i = 0; i < inputs.size(); ++i)
    for (size_t axis = 0; axis < inputs[i].ndim(); ++axis)
      text += (text.empty() ? "" : ",") + axis_name(i, axis) + "=" +
              std::to_string(inputs[i].shape(static_cast<int>(axis)));
  return text;
}

Launches launches_of(const AutotuneKernel& kernel, const Autotune& options,
                     const std::vector<mx::array>& inputs) {
  Launches result;
  std::string first_error;
  AutotuneKernel::Knobs knobs;
  const std::function<void(size_t)> from = [&](size_t knob) {
    if (result.size() >= kMostSettings) return;
    if (knob == options.knobs.size()) {
      try {
        result.emplace_back(knobs, kernel.launch(inputs, knobs));
      } catch (const std::invalid_argument& error) {  // a setting that these arrays rule out
        if (first_error.empty()) first_error = error.what();
      }
      return;
    }
    for (const int64_t value : options.knobs[knob].second) {
      knobs.emplace_back(options.knobs[knob].first, value);
      from(knob + 1);
      knobs.pop_back();
    }
  };
  from(0);
  if (result.empty())
    base::misuse("autotune",
                 "'" + kernel.name + "' refuses every setting of its knobs: " + first_error);
  const auto& first = result.front().second;
  if (first.output_shapes.size() != kernel.output_names.size() ||
      first.output_dtypes.size() != kernel.output_names.size())
    base::misuse("autotune", "the launch of '" + kernel.name + "' has " +
                                 std::to_string(first.output_shapes.size()) + " shapes and " +
                                 std::to_string(first.output_dtypes.size()) + " types for " +
                                 std::to_string(kernel.output_names.size()) +
                                 " outputs: give one of each for every output");
  return result;
}

std::string autotune_text(const AutotuneKernel& kernel, const Autotune& options,
                          const std::vector<mx::array>& inputs) {
  const Launches launches = launches_of(kernel, options, inputs);
  return ports_text(kernel, launches.front().second, inputs) + knobs_text(options, launches) +
         "// kd: batch none\n" + kernel.header + "\n// kd: body\n" + kernel.source + "\n";
}

void write_autotune_files(const fs::path& folder, const AutotuneKernel& kernel,
                          const Autotune& options, const std::vector<mx::array>& inputs) {
  const std::string text = autotune_text(kernel, options, inputs);
  fs::create_directories(folder);
  export_graphs(folder, kernel, options, inputs);
  base::write_file_atomically(folder / "kernel.metal",
                              "// autotune " + autotune_digest(text, options, inputs) + "\n" + text,
                              "autotune");
  base::write_file_atomically(folder / "reference.py", reference_text(folder, inputs.size()),
                              "autotune");
}

}  // namespace mlx_kd::runtime
