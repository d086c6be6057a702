// An operator and the variants that compute it.
//
// The one place that says what an operator is: its ports, what MLX and float64 say it computes, how
// close a kernel must come, its sizes, and the kernels to choose from. kernels/<op>/op.cpp fills
// one in.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "mlx_kd/spec/device_id.h"
#include "mlx_kd/spec/dtype.h"
#include "mlx_kd/spec/model_config.h"
#include "mlx_kd/spec/named_ints.h"
#include "mlx_kd/spec/space.h"

namespace mlx::core {
class array;
}

namespace mlx_kd::spec {

using Shape = std::vector<int64_t>;

// An input or output array; its type is the candidate's dtype.
struct Port {
  std::string name;                         // as in the first version: "inp", "weight", "out"
  std::function<Shape(const Dims&)> shape;  // row-major
};

// A number that the model chooses: passed to the kernel at run time, never a knob.
struct RuntimeInput {
  std::string name;      // "eps"
  double default_value;  // what is timed and pinned unless asked otherwise
  std::vector<double>
      proved;  // the values every candidate is proved with (default_value among them)
};

// |y - y64| <= (roundings u + accumulated 2^-24) S + tiny: u the unit roundoff of the type, S per
// element.
struct ErrorBound {
  double roundings;    // roundings to the type on the way to an element, the stored result included
  double accumulated;  // float32 roundings beside them, for the given dims; probabilistic where
                       // long sums are meant: lambda sqrt(n) (Higham and Mary 2019, SIAM J. Sci.
                       // Comput. 41(5), theorem 2.4)
  std::string derivation;  // one or two sentences; printed by `kd ops --json`
};

// float64 values of one output and the magnitude S of the terms that made each element.
struct Reference64 {
  std::vector<double> y;
  std::vector<double> scale;
};

struct Cost {
  double bytes;  // least traffic: each input read once, each output written once
  double flops;
};

// How a kernel is launched. On a CPU: grid[0] units of work (rows, or blocks of elements), group[0]
// units a task, `threads` threads share the tasks (1: the calling thread alone). On a GPU: threads
// a dimension.
struct Launch {
  std::array<int64_t, 3> grid = {1, 1, 1};
  std::array<int64_t, 3> group = {1, 1, 1};
  int threads = 1;
};

// One source and what may be varied in it.
struct Variant {
  std::string name;         // "rows": unique in its op and language
  std::string language;     // "cpp", "metal", "cuda"
  std::string source;       // the whole file; knobs are macros with #ifndef defaults
  std::string func_name;    // what the object exports: "mlx_kd_rmsnorm"
  std::string launch_kind;  // "cpu_rows": written to launch_params
  std::function<Space(Dtype, const DeviceTraits&)> space;
  std::function<Launch(const Dims&, const Setting&)> launch;
};

struct Suite {
  std::string name;  // "glm_flash_decode"
  std::vector<Dims> sizes;
};

struct Op {
  using Arrays = std::vector<mlx::core::array>;

  std::string name;
  std::string summary;  // one line for `kd ops`
  std::vector<Port> inputs, outputs;
  std::vector<std::string> dim_names;        // what a user gives, in order: {"rows", "D"}
  std::vector<RuntimeInput> runtime_inputs;  // in the order that kernels take them
  std::vector<Suite> suites;                 // the first is the default

  // Checks given dims and adds derived ones (N, D_OUT). Misuse (room kernels) where a size makes no
  // sense for the op (odd D_ROPE). That each name is there once, positive and that no product
  // overflows is checked before. The result is what a pin's shape_signature holds.
  std::function<Dims(const Dims&)> complete;

  // The sizes that a model's config gives; the first is what a run takes by itself. Misuse, naming
  // the fields, where the config lacks what the op needs. Left out: sizes are always given by hand.
  std::function<std::vector<ModelSizes>(const ModelConfig&)> of_model;

  std::function<Cost(const Dims&, Dtype)> cost;
  // As MLX computes it, lazily, with the best composition of MLX's own operators. params as
  // runtime_inputs.
  std::function<Arrays(const Arrays& inputs, const std::vector<double>& params)> mlx;
  // In float64, no intermediate rounding, from inputs as stored (row-major). One entry an output.
  std::function<std::vector<Reference64>(const std::vector<const void*>& inputs, Dtype, const Dims&,
                                         const std::vector<double>& params)>
      reference;
  std::function<ErrorBound(const Dims&)> bound;
  // Rows that hold special values (inf, NaN, signed zeros, subnormals) where the op defines them;
  // writes them into inputs that were filled with normal values. Elements that MLX itself makes NaN
  // or infinite must be so in a kernel.
  std::function<void(const std::vector<void*>& inputs, Dtype, const Dims&)> add_special_values;
  std::vector<Variant> variants;
};

int64_t element_count(const Shape& shape);

}  // namespace mlx_kd::spec
