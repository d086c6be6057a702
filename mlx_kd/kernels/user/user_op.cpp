// The operator that a user's kernel becomes: its ports, judges and space, like those of the table.
#include <algorithm>
#include <cmath>
#include <mutex>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/new_operator.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/user/ports.h"
#include "mlx_kd/kernels/user/reference.h"
#include "mlx_kd/kernels/user/space.h"

namespace mlx_kd::kernels {
namespace {

using user::ReferenceCall;
using Kernel = std::shared_ptr<const UserKernel>;

// Of float32 roundings in a result: a few, and a random walk over the longest axis of the inputs.
constexpr double kFewRoundings = 8, kWalk = 2;

double roundings(const UserKernel& kernel, const spec::Dims& dims) {
  int64_t longest = 1;
  for (const UserPort& port : kernel.inputs)
    for (const int64_t extent : user::array_of(port, spec::Dtype::float32, dims).shape)
      longest = std::max(longest, extent);
  return kFewRoundings + kWalk * std::sqrt(static_cast<double>(longest));
}

spec::ErrorBound bound_of(const UserKernel& kernel, const spec::Dims& dims) {
  if (kernel.judge.name == "close")
    return {1, "The tolerances that were given: |y - y64| <= absolute + relative |y64|."};
  return {roundings(kernel, dims),
          "S is how much a result moves when every input is rounded to float32; 8 roundings, and 2 "
          "sqrt(n) for sums over the longest axis n of an input."};
}

bool is_exact(const UserKernel& kernel, const UserPort& port) {
  return kernel.judge.name == "exact" ||
         (port.type != "T" && !spec::is_float(spec::parse_dtype(port.type)));
}

void add_ports(spec::Op& op, const Kernel& kernel) {
  for (const UserPort& port : kernel->inputs) op.inputs.push_back(user::make_port(port));
  for (const UserPort& port : kernel->outputs) {
    op.outputs.push_back(user::make_port(port));
    if (is_exact(*kernel, port)) op.outputs.back().judge = spec::Judge::exact;
  }
  for (const std::string& name : kernel->dims) {
    spec::Dim dim{name};
    if (!user::is_read(*kernel, name)) dim.kind = spec::Dim::Kind::attribute;
    dim.free = name == kernel->batch_dim;
    op.dims.push_back(dim);
  }
  op.batch_dim = kernel->batch_dim;
  op.scalars = kernel->scalars;
}

// The reference as the op's MLX form: a graph for each size and type that is asked for.
class MlxGraphs {
 public:
  explicit MlxGraphs(Kernel kernel) : kernel_(std::move(kernel)) {}

  spec::Op::Arrays call(const spec::Op::Arrays& inputs, std::span<const double> numbers,
                        const mlx::core::Stream& stream) {
    const auto key = key_of(inputs, numbers, stream);
    std::lock_guard lock(mutex_);
    auto known = std::find_if(graphs_.begin(), graphs_.end(),
                              [&](const auto& one) { return one.first == key; });
    if (known == graphs_.end())
      known = graphs_.insert(known, {key, graph_for(inputs, numbers, stream)});
    return known->second(inputs);
  }

 private:
  using Key = std::vector<double>;

  static Key key_of(const spec::Op::Arrays& inputs, std::span<const double> numbers,
                    const mlx::core::Stream& stream) {
    Key key(numbers.begin(), numbers.end());
    key.push_back(static_cast<double>(stream.device.type));
    for (const auto& input : inputs) {
      key.push_back(static_cast<double>(input.dtype().val()));
      for (const auto extent : input.shape()) key.push_back(extent);
      key.push_back(-1);
    }
    return key;
  }

  user::Graph graph_for(const spec::Op::Arrays& inputs, std::span<const double> numbers,
                        const mlx::core::Stream& stream) const {
    std::vector<spec::Shape> shapes;
    spec::Dtype t = spec::Dtype::float32;
    for (size_t i = 0; i < inputs.size(); ++i) {
      shapes.emplace_back(inputs[i].shape().begin(), inputs[i].shape().end());
      if (kernel_->inputs[i].type != "T") continue;
      if (inputs[i].dtype() == mlx::core::float16) t = spec::Dtype::float16;
      if (inputs[i].dtype() == mlx::core::bfloat16) t = spec::Dtype::bfloat16;
    }
    const auto scalars = numbers.first(kernel_->scalars.size());
    const spec::Dims dims = user::dims_of(*kernel_, shapes, numbers.subspan(scalars.size()));
    const std::vector<double> own(scalars.begin(), scalars.end());
    return user::exported_reference(*kernel_, {t, dims, own}, stream.device);
  }

  Kernel kernel_;
  std::mutex mutex_;
  std::vector<std::pair<Key, user::Graph>> graphs_;
};

void add_reference(spec::Op& op, const Kernel& kernel) {
  const bool is_recorded = kernel->reference.kind == UserReference::Kind::recorded;
  op.fill = [kernel, is_recorded](const spec::FillRequest& request) {
    if (is_recorded)
      user::recorded_inputs(*kernel, {request.t, request.dims, request.scalars}, request.inputs);
    else
      user::fill_ports(*kernel, request);
  };
  op.reference = [kernel](const std::vector<const void*>& inputs, spec::Dtype t,
                          const spec::Dims& dims, const std::vector<double>& scalars) {
    return user::reference_values(*kernel, inputs, {t, dims, scalars});
  };
  op.bound = [kernel](const spec::Dims& dims) { return bound_of(*kernel, dims); };
  op.exact = [kernel](const std::vector<const void*>& inputs, spec::Dtype t, const spec::Dims& dims,
                      const std::vector<double>& scalars, const std::vector<void*>& outputs) {
    user::reference_bits(*kernel, inputs, {t, dims, scalars}, outputs);
  };
  if (!spec::judged_by(op, spec::Judge::exact)) op.exact = {};
  if (!kernel->reference.has_graph) return;
  op.mlx = [graphs = std::make_shared<MlxGraphs>(kernel)](
               const spec::Op::Arrays& inputs, std::span<const double> numbers,
               const mlx::core::Stream& stream) { return graphs->call(inputs, numbers, stream); };
}

// An operator without what belongs to its own kernels.
spec::Op without_kernels(spec::Op op) {
  op.variants.clear(), op.edge_sizes.clear();
  op.of_model = {};
  op.gradient = {};
  return op;
}

// An operator of the table with the user's kernel in the place of its own ones.
spec::Op op_like(const std::string& name) {
  const spec::Op& op = find_op(name);
  if (!op.description.is_null())
    base::misuse("tune", "the reference '" + name +
                             "' is a kernel of a user itself: give an "
                             "operator of the table, or a file");
  return without_kernels(op);
}

spec::Variant variant_of(const Kernel& kernel) {
  spec::Variant variant;
  variant.name = "tuned";
  variant.language = kernel->language;
  variant.source = kernel->source;
  variant.func_name = kernel->function;
  const bool takes_list = kernel->source.find("kd_arguments") != std::string::npos;
  variant.launch_kind = kernel->language == "metal"  ? "metal_tuned"
                        : kernel->language == "cuda" ? "cuda_arguments"
                        : takes_list                 ? "cpp_arguments"
                                                     : "cpu_tuned";
  variant.space = [kernel](spec::Dtype, const spec::DeviceTraits&) {
    return user::space_of(*kernel);
  };
  variant.launch = user::launch_of(*kernel);
  return variant;
}

// What every operator made of a kernel has, whatever its reference.
void add_kernel(spec::Op& op, const Kernel& kernel) {
  op.name = kernel->name;
  op.suites = {{"custom", kernel->sizes}};
  op.variants = {variant_of(kernel)};
}

// An operator of the table, which takes sizes that no run has seen.
spec::Op of_table(spec::Op op, const Kernel& kernel) {
  add_kernel(op, kernel);
  op.suites.front().name = kernel->name + "_sizes";
  if (!kernel->type.empty()) op.types = {spec::parse_dtype(kernel->type)};
  const auto plain = std::make_shared<const spec::Op>(op);
  op.complete = [plain, kernel](const spec::Dims& given) {
    const spec::Dims dims = spec::complete(*plain, given);
    user::check_fit(*kernel, dims);
    return dims;
  };
  if (op.edge_sizes.empty()) op.edge_sizes = user::edge_sizes(*kernel);
  return op;
}

// Those of the operator that it is like which it takes.
std::vector<spec::Dims> fitting(const spec::Op& like, const UserKernel& kernel) {
  std::vector<spec::Dims> result;
  for (const spec::Dims& size : like.edge_sizes) try {
      user::check_fit(kernel, spec::complete(like, size));
      result.push_back(size);
    } catch (const base::Error&) {  // it is left out
    }
  return result;
}

}  // namespace

spec::Op table_op(const UserKernel& given) {
  const auto kernel = std::make_shared<const UserKernel>(given);
  spec::Op op;
  add_ports(op, kernel);
  add_reference(op, kernel);
  op.gradient = {spec::Gradient::By::none};
  return of_table(std::move(op), kernel);
}

spec::Op table_op(const UserKernel& given, spec::Op like) {
  std::vector<spec::Dims> edges = fitting(like, given);
  spec::Op op = without_kernels(std::move(like));
  op.edge_sizes = std::move(edges);
  op.doc.function.clear(), op.doc.aliases.clear();
  return of_table(std::move(op), std::make_shared<const UserKernel>(given));
}

spec::Op sized_op(const UserKernel& kernel) {
  spec::Op op;
  if (kernel.reference.kind == UserReference::Kind::op)
    op = op_like(kernel.reference.name);
  else
    add_ports(op, std::make_shared<const UserKernel>(kernel));
  op.name = kernel.name;
  return op;
}

void try_reference(UserKernel& kernel, spec::Dtype t) {
  if (kernel.reference.kind == UserReference::Kind::python)
    kernel.reference.has_graph =
        user::has_graph(kernel, {t, kernel.sizes.front(), spec::default_scalars(sized_op(kernel))});
}

spec::Op user_op(const UserKernel& given) {
  const auto kernel = std::make_shared<const UserKernel>(given);
  for (const spec::Op& op : all_ops())
    if (op.name == kernel->name)
      base::misuse("tune", "'" + kernel->name +
                               "' is an operator of the table: give your kernel "
                               "another name with --name");
  spec::Op op = sized_op(*kernel);
  if (kernel->reference.kind != UserReference::Kind::op) add_reference(op, kernel);
  op.summary = "the kernel " + kernel->function + " of " + kernel->file;
  op.doc = {};
  op.doc.hidden = true;
  add_kernel(op, kernel);
  op.description = to_json(*kernel);
  std::string faults;
  for (const std::string& fault : spec::faults_of(op)) faults += "\n  " + fault;
  if (!faults.empty())
    base::misuse("tune", kernel->file + " does not describe an operator; correct it:" + faults);
  return op;
}

}  // namespace mlx_kd::kernels
