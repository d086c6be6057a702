#include "mlx_kd/devices/cuda/cuda_body.h"

#include <algorithm>

#include "mlx/ops.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/devices/cuda/call/precompiled.h"
#include "mlx_kd/devices/cuda/call/primitive_cache.h"
#include "mlx_kd/devices/cuda/compile/cuda_text.h"
#include "mlx_kd/devices/host/once.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;

using BodyHolds = msl::BodyBuffer::Holds;

// What MLX's primitive is made of in addition to the text.
struct Sizes {
  std::array<int64_t, 3> grid, group;
  std::optional<float> init_value;
  bool as_they_lie;
  mx::Stream stream;
  bool operator==(const Sizes&) const = default;
};

struct BodyCubin {
  BodyCubin(std::string cubin, std::string name)
      : bytes(std::move(cubin)), symbol(std::move(name)) {}
  std::string bytes, symbol;
  mutable Prepared<Sizes> prepared;
  mutable Prepared<Sizes, std::shared_ptr<const NativeWork>> works;
  mutable std::once_flag loaded;
  mutable Function function = nullptr;  // where the native module is
};

std::string known_as(const MetalBody& body, int64_t group_threads) {
  return std::to_string(register_limit(group_threads)) + '\0' + all_of(body.text);
}

std::shared_ptr<const BodyCubin> build(const MetalBody& body, int64_t group_threads) {
  msl::TranslateOptions options;
  options.buffers_apart = true;  // outputs are new memory
  const TranslatedText translated = translate_text(body.text, msl::Target::cuda, options);
  const CudaText text = cuda_text(translated, gpu().sm, group_threads);
  const auto cache = cpu::ObjectCache::from_environment();
  const Artifact made = compile_text(text, cache, "metal_kernel");
  if (!made.ok) base::misuse("metal_kernel", "'" + body.kernel + "': " + made.error);
  return std::make_shared<BodyCubin>(base::read_file(made.path, "devices"),
                                     text.symbol(translated.kernel(body.kernel)));
}

template <class T>
mx::array list_of(const std::vector<T>& values, mx::Dtype dtype) {
  return mx::array(values.begin(), {static_cast<int>(values.size())}, dtype);
}

// What each buffer but the outputs holds, in order of index: outputs come last.
std::vector<mx::array> arguments_of(const MetalBodyCall& call, bool as_they_lie) {
  std::vector<mx::array> result;
  for (const msl::BodyBuffer& one : call.body.buffers) {
    if (one.holds == BodyHolds::output) continue;
    const mx::array& input = call.call->inputs[one.array];
    const std::vector<int> shape(input.shape().begin(), input.shape().end());
    if (one.holds == BodyHolds::input) {
      result.push_back(as_they_lie ? input : aligned(mx::contiguous(input, false, call.stream)));
    } else if (one.holds == BodyHolds::shape) {
      result.push_back(list_of(shape, mx::int32));
    } else if (one.holds == BodyHolds::ndim) {
      result.push_back(mx::array(static_cast<int>(shape.size()), mx::int32));
    } else {
      std::vector<int64_t> strides(shape.size(), 1);
      for (size_t i = shape.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * shape[i];
      if (as_they_lie) strides.assign(input.strides().begin(), input.strides().end());
      result.push_back(list_of(strides, mx::int64));
    }
  }
  return result;
}

std::vector<mx::array> prepare(const BodyCubin& cubin, const Sizes& sizes,
                               const std::vector<mx::array>& arguments,
                               const MetalKernelCall& given) {
  const LaunchSize size = launch_size(sizes.grid, sizes.group);
  std::array<unsigned, 3> grid;
  std::vector<mx::fast::ScalarArg> threads;
  for (size_t d = 0; d < 3; ++d) {
    grid[d] = size.blocks[d] * size.threads[d];
    threads.emplace_back(static_cast<int>(sizes.grid[d]));
  }
  std::vector<mx::array> made = mx::fast::precompiled_cuda_kernel(
      cubin.symbol, cubin.bytes, arguments, given.output_shapes, given.output_dtypes, threads,
      three(grid), three(size.threads), 0, given.init_value, !sizes.as_they_lie, sizes.stream);
  cubin.prepared.keep(sizes, made.front().primitive_ptr());
  return made;
}

std::shared_ptr<const NativeWork> work_of(const BodyCubin& cubin, const Sizes& sizes,
                                          size_t arguments, size_t outputs) {
  if (const auto known = cubin.works.find(sizes)) return known;
  std::call_once(cubin.loaded, [&cubin] {
    const auto code = std::make_shared<Code>(cubin.bytes);
    cubin.function = code->function(cubin.symbol);
    keep_loaded(code);
  });
  using Layout = NativeKernel::Layout;
  using Kind = TextParameter::Kind;
  NativeKernel kernel{"metal_kernel", {}, {}, {}, {}};
  kernel.layouts.assign(arguments, sizes.as_they_lie ? Layout::as_it_lies : Layout::row_major);
  TextStage stage{native_node(cubin.function, launch_size(sizes.grid, sizes.group))};
  for (size_t i = 0; i < arguments; ++i) stage.parameters.push_back({Kind::input, i});
  for (size_t i = 0; i < outputs; ++i) stage.parameters.push_back({Kind::output, i});
  for (const int64_t threads : sizes.grid)
    stage.parameters.push_back(number_parameter(static_cast<uint32_t>(threads)));
  const auto work = std::make_shared<const TextWork>(
      std::move(kernel), std::vector<TextStage>{std::move(stage)}, std::vector<double>());
  cubin.works.keep(sizes, work);
  return work;
}

bool are_known_and_aligned(const std::vector<mx::array>& inputs) {
  return std::all_of(inputs.begin(), inputs.end(), [](const mx::array& one) {
    return one.is_available() && one.offset() % 16 == 0;
  });
}

}  // namespace

std::vector<mx::array> run_body(const MetalBodyCall& call) {
  // Or a refusal, before anything is compiled.
  const int64_t threads = launch_size(call.grid, call.group).block_threads();
  use_gpu();
  static auto& known = *new OncePerKey<BodyCubin>;
  const auto cubin =
      known.get(known_as(call.body, threads), [&] { return build(call.body, threads); });
  const MetalKernelCall& given = *call.call;
  const bool as_they_lie =
      !call.kernel->ensure_row_contiguous && are_known_and_aligned(given.inputs);
  const Sizes sizes{call.grid, call.group, given.init_value, as_they_lie, call.stream};
  const std::vector<mx::array> arguments = arguments_of(call, as_they_lie);
  // What is filled first is left to MLX's primitive.
  if (const NativeApi* api = given.init_value ? nullptr : find_native())
    return native_call(*api, {call.stream},
                       work_of(*cubin, sizes, arguments.size(), given.output_shapes.size()),
                       arguments, given.output_shapes, given.output_dtypes);
  if (const auto primitive = cubin->prepared.find(sizes))
    return mx::array::make_arrays(given.output_shapes, given.output_dtypes, primitive, arguments);
  return prepare(*cubin, sizes, arguments, given);
}

}  // namespace mlx_kd::devices::cuda
