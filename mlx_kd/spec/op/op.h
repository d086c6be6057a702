// An operator and the variants that compute it: the contract between kernels/<family>/<op>/op.cpp,
// which fills one in, and every room that proves, times, searches, pins and calls it.
//
// Required: name, summary, ports, dims, suites, variants, and what the outputs' judges need
// (`reference` and `bound`, `residuals`, or MLX's form for `exact`). All else has a default.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mlx_kd/spec/op/doc.h"
#include "mlx_kd/spec/op/judge.h"
#include "mlx_kd/spec/op/model_config.h"
#include "mlx_kd/spec/op/port.h"
#include "mlx_kd/spec/op/variant.h"

namespace mlx::core {
class array;
struct Stream;
}  // namespace mlx::core

namespace mlx_kd::spec {

struct Cost {
  double bytes;  // least traffic: each input read once, each output written once
  double flops;
};

// An array of a call, for Op::signature: no copies, no allocation.
struct ArrayView {
  std::span<const int32_t> shape;
  Dtype type;
};

// What Op::fill writes: one entry per input, memory of that input's size.
struct FillRequest {
  std::vector<void*> inputs;
  Dtype t;
  const Dims& dims;  // complete
  const std::vector<double>& scalars;
  Distribution distribution;
  uint64_t seed;
};

// What vjp, jvp and vmap of our kernel go through; a composition may stand for MLX's form.
struct Gradient {
  enum class By {
    mlx,   // MLX's form is differentiated (the default)
    none,  // they throw, as MLX's operators without gradients do
    op,    // vjp calls another operator of the table; jvp and vmap go through MLX's form
  } by = By::mlx;
  // By::op: its inputs are this op's inputs, then its outputs, then the cotangents of the outputs,
  // as far as its ports have those names (a cotangent is called "d" + the output's name); its
  // outputs are the gradients, called "d" + the input's name. Inputs without one have none.
  std::string op = {};
};

struct Op {
  using Arrays = std::vector<mlx::core::array>;

  std::string name;
  std::string summary;  // one line for `kd ops`
  Doc doc;              // of the C++ and Python functions that are generated for it
  // Raised when results, ports or dims change so that an older pin may not serve a call any more.
  int contract = 1;

  std::vector<Port> inputs, outputs;
  std::vector<Dtype> types = float_dtypes();  // what T may be
  std::vector<Dim> dims;                      // what a user gives, in order
  std::vector<Scalar> scalars;                // in the order that kernels of Abi::lists take them
  std::vector<Suite> suites;                  // the first is the default
  // Small and odd sizes for the tests of every device: remainders of vectors, single elements.
  std::vector<Dims> edge_sizes;

  // The dim whose smaller values are parts of the same problem: proofs take fewer of it if memory
  // is short, and pins may cover a range of it. Empty: there is none.
  std::string batch_dim;

  // Dims that count other parts of a problem that do not depend on each other (rows of a weight):
  // proofs take fewer of them where memory is short even with one of the batch dim. The size that
  // is timed has half of the memory to itself.
  std::vector<std::string> proof_dims;

  // Checks given dims and adds derived ones (N, D_OUT). Misuse (room kernels) where a size makes no
  // sense for the op (odd D_ROPE). That each name is there once and in range is checked before. The
  // result is what a pin's shape_signature holds. Default: the dims as given, in the op's order.
  std::function<Dims(const Dims&)> complete;

  // The size of a call from its arrays and scalars: writes one value per entry of `dims`, where the
  // attributes have the call's values already. As many arrays as the op has inputs, of the ports'
  // types; ports of type T may differ from each other, and then only MLX's form runs. Throws
  // std::invalid_argument, "[op] what is wrong, with the shapes", if they do not go together.
  // Called for every lookup: it must not allocate unless it throws. Default: read off the axes of
  // the inputs, which the shapes of the ports tell apart (by_axes).
  std::function<void(std::span<const ArrayView> inputs, std::span<const double> scalars,
                     std::span<int64_t> dims)>
      signature;

  // Brings the inputs of a call into the shapes of the ports before all else: leading axes of 1
  // dropped, say. Throws as `signature` does. Left out: they are taken as they come.
  std::function<Arrays(const Arrays& inputs, const mlx::core::Stream& stream)> arrange;

  // The sizes that a model's config gives; the first is what a run takes by itself. Misuse, naming
  // the fields, where the config lacks what the op needs. Left out: sizes are always given by hand.
  std::function<std::vector<ModelSizes>(const ModelConfig&)> of_model;

  // Default: the bytes of all ports (an updated port's once), no flops.
  std::function<Cost(const Dims&, Dtype)> cost;

  // As MLX computes it, lazily, with the best composition of MLX's own operators. `scalars`: the
  // values of `scalars`, then those of the attributes, in order (numbers_of). Throws on a device
  // where MLX lacks it. Left out: MLX has no form of the op.
  std::function<Arrays(const Arrays& inputs, std::span<const double> scalars,
                       const mlx::core::Stream& stream)>
      mlx;
  // Where `mlx` is absent or throws: the best that a user can do with MLX's operators instead,
  // which claims are measured against. Its results need not be comparable bit by bit.
  std::function<Arrays(const Arrays& inputs, std::span<const double> scalars,
                       const mlx::core::Stream& stream)>
      composition;
  // From how many rows (rows_dim of rows.h) on MLX's time for the op grows in proportion to them,
  // on a CPU: where a call of more takes long, a claim runs MLX with so many and multiplies. Left
  // out, or 0: MLX is run with all.
  std::function<int64_t(Dtype)> mlx_rows;
  Gradient gradient;

  // Writes the inputs of a proof. Default: by the distribution, for inputs of type T; an op with
  // other inputs must have its own.
  std::function<void(const FillRequest&)> fill;
  // With the default fill: rows that hold special values (inf, NaN, signed zeros, subnormals) where
  // the op defines them, written into inputs that were filled with normal values. Elements that MLX
  // itself makes NaN or infinite must be so in a kernel.
  std::function<void(const std::vector<void*>& inputs, Dtype, const Dims&)> add_special_values;

  // In float64, no intermediate rounding, from inputs as stored (row-major). One entry per output;
  // those of outputs that are not judged by their bound stay empty.
  std::function<std::vector<Reference64>(const std::vector<const void*>& inputs, Dtype, const Dims&,
                                         const std::vector<double>& scalars)>
      reference;
  // Sizes at which `reference` gives only some elements, because all would take minutes; the others
  // have kUnchecked as `absolute`. Proofs do not ask MLX at them. Left out: none.
  std::function<bool(const Dims&)> is_sampled;
  std::function<ErrorBound(const Dims&)> bound;
  std::function<std::vector<Residual>(const JudgedCase&)> residuals;
  // The bits of the outputs judged `exact`, written to memory of their size (null for others).
  // Default: MLX's.
  std::function<void(const std::vector<const void*>& inputs, Dtype, const Dims&,
                     const std::vector<double>& scalars, const std::vector<void*>& outputs)>
      exact;

  std::vector<Variant> variants;

  // Of an op that is not in the table: what another process makes the same op from
  // (kernels/user_kernel.h); it goes with runs, workers and packs. Null: the table has it.
  base::Json description = {};

  std::vector<std::string> dim_names() const;
};

// `given` completed: Op::complete, or the dims in the op's order with attributes' defaults. Misuse
// where a dim is missing, unknown or out of range.
Dims complete(const Op& op, const Dims& given);
Cost cost_of(const Op& op, const Dims& dims, Dtype t);
std::string types_text(const Op& op);  // what T may be: "float32, float16 or bfloat16"
// Misuse, naming the op's types, if T may not be `t`.
void check_type(const Op& op, Dtype t);
// What Op::mlx and Op::composition take for scalars: the scalars, then the attributes.
std::vector<double> numbers_of(const Op& op, const std::vector<double>& scalars, const Dims& dims);
// The same size with `most` of the batch dim, or as it is.
Dims with_batch(const Op& op, const Dims& dims, int64_t most);

std::vector<double> default_scalars(const Op& op);
// Index of the output that updates the input, -1 if none does; of the input that an output updates.
int updating_output(const Op& op, size_t input);
int updated_input(const Op& op, size_t output);
bool judged_by(const Op& op, Judge judge);   // any output is
int64_t mlx_rows_of(const Op& op, Dtype t);  // Op::mlx_rows, or 0

// What is wrong with the op as it is declared, "field: what is wrong" per line; empty: nothing.
// The table of operators refuses such an op when it is made.
std::vector<std::string> faults_of(const Op& op);

}  // namespace mlx_kd::spec
