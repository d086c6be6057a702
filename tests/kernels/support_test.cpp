#include "tests/kernels/support.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <mlx/mlx.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>

#include "mlx_kd/base/files.h"
#include "mlx_kd/base/process.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {
namespace {

namespace fs = std::filesystem;
namespace mx = mlx::core;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Scratch {
  fs::path path = fs::temp_directory_path() / ("mlx_kd_kernels_" + std::to_string(getpid()));
  Scratch() { fs::create_directories(path); }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

double normal(base::Random& random) {
  const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
  return radius * std::cos(6.283185307179586 * random.uniform());
}

double magnitude(Values values, spec::Dtype dtype, base::Random& random) {
  if (values == Values::large) return dtype == spec::Dtype::float16 ? 16 : 4096;
  if (values == Values::tiny) return std::exp2(-8 - static_cast<double>(random.below(6)));
  return 1;
}

mx::Dtype mlx_type(spec::Dtype dtype) {
  return dtype == spec::Dtype::float32   ? mx::float32
         : dtype == spec::Dtype::float16 ? mx::float16
                                         : mx::bfloat16;
}

mx::array as_array(const std::vector<std::byte>& bytes, const spec::Shape& shape,
                   spec::Dtype dtype) {
  const mx::Shape extents(shape.begin(), shape.end());
  return mx::array(const_cast<std::byte*>(bytes.data()), extents, mlx_type(dtype), [](void*) {});
}

double used(double y, double y64, double allowed) {
  if (std::isinf(allowed)) return 0;
  if (std::isnan(y64) || std::isnan(y)) return std::isnan(y64) && std::isnan(y) ? 0 : kInfinity;
  if (std::isinf(y64) || std::isinf(y)) return y == y64 ? 0 : kInfinity;
  return std::fabs(y - y64) / allowed;
}

// Memory with a fence on both sides of the part in use.
struct Fenced {
  static constexpr size_t kFence = 256;
  static constexpr std::byte kPoison{0xff};
  Fenced(size_t bytes_, size_t offset)
      : bytes(bytes_), memory(bytes_ + 4 * kFence, kPoison), start(kFence + offset) {
    start += (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  }
  std::byte* data() { return memory.data() + start; }
  bool intact() const {
    return std::all_of(memory.begin(), memory.begin() + static_cast<long>(start), is_poison) &&
           std::all_of(memory.begin() + static_cast<long>(start + bytes), memory.end(), is_poison);
  }
  static bool is_poison(std::byte byte) { return byte == kPoison; }
  size_t bytes;
  std::vector<std::byte> memory;
  size_t start;
};

}  // namespace

spec::DeviceTraits avx512_traits() {
  spec::DeviceTraits traits;
  traits.cores = 2;
  traits.vector_bytes = 64;
  traits.isa = {"avx2", "avx512_bf16", "avx512bw", "avx512f", "avx512vl", "f16c", "fma"};
  return traits;
}

spec::DeviceTraits host_traits() {
  spec::DeviceTraits traits = avx512_traits();
  std::ifstream file("/proc/cpuinfo");
  std::string line, flags;
  while (std::getline(file, line))
    if (line.starts_with("flags")) flags = line + " ";
  std::erase_if(traits.isa, [&](const std::string& isa) {
    return flags.find(" " + isa + " ") == std::string::npos;
  });
  const bool wide = flags.find(" avx512f ") != std::string::npos;
  traits.vector_bytes = wide ? 64 : flags.find(" avx2 ") != std::string::npos ? 32 : 16;
  return traits;
}

const fs::path& scratch_folder() {
  static const Scratch scratch;
  return scratch.path;
}

std::vector<std::string> macros_of(const spec::Space& space, const spec::Setting& knobs,
                                   spec::Dtype dtype) {
  std::vector<std::string> macros = {"-DKD_DTYPE=" + std::to_string(static_cast<int>(dtype))};
  for (const spec::Knob& knob : space.knobs)
    if (knob.role == spec::KnobRole::source)
      macros.push_back("-D" + knob.name + "=" + std::to_string(knobs.at(knob.name)));
  return macros;
}

KernelFunction compile_kernel(const spec::Variant& variant, const std::string& source,
                              const std::vector<std::string>& macros) {
  static std::atomic<int> count{0};
  const std::string stem = (scratch_folder() / std::to_string(count++)).string();
  base::write_file_atomically(stem + ".cpp", source, "test");
  std::vector<std::string> argv = {"c++",     "-O3",        "-std=c++20",    "-ffp-contract=fast",
                                   "-o",      stem + ".so", "-march=native", "-fno-math-errno",
                                   "-shared", "-fPIC",      stem + ".cpp"};
  argv.insert(argv.end(), macros.begin(), macros.end());
  const base::ProcessResult result = base::run_process(argv, 60);
  if (!result.ok()) throw std::runtime_error(result.output);
  void* library = dlopen((stem + ".so").c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw std::runtime_error(dlerror());
  return reinterpret_cast<KernelFunction>(dlsym(library, variant.func_name.c_str()));
}

Problem make_problem(const spec::Op& op, spec::Dtype dtype, const spec::Dims& given, Values values,
                     uint64_t seed) {
  Problem problem{&op, dtype, op.complete(given), {}, {}, {}};
  for (const spec::RuntimeInput& input : op.runtime_inputs)
    problem.params.push_back(input.default_value);
  base::Random random(seed);
  std::vector<const void*> read;
  std::vector<void*> write;
  for (const spec::Port& port : op.inputs) {
    const int64_t count = spec::element_count(port.shape(problem.dims));
    const double scale = magnitude(values, dtype, random);
    problem.inputs.emplace_back(static_cast<size_t>(count * spec::size_of(dtype)));
    for (int64_t i = 0; i < count; ++i)
      spec::store_element(problem.inputs.back().data(), i, dtype,
                          static_cast<float>(scale * normal(random)));
  }
  for (auto& input : problem.inputs) {
    read.push_back(input.data());
    write.push_back(input.data());
  }
  if (values == Values::special && op.add_special_values)
    op.add_special_values(write, dtype, problem.dims);
  problem.expected = op.reference(read, dtype, problem.dims, problem.params);
  return problem;
}

Outputs run_kernel(KernelFunction kernel, const Problem& problem, int64_t units, int pieces,
                   size_t offset) {
  std::vector<const void*> inputs;
  for (const auto& input : problem.inputs) inputs.push_back(input.data());
  std::vector<Fenced> fenced;
  for (const spec::Port& port : problem.op->outputs)
    fenced.emplace_back(static_cast<size_t>(spec::element_count(port.shape(problem.dims)) *
                                            spec::size_of(problem.dtype)),
                        offset);
  std::vector<void*> outputs;
  for (Fenced& memory : fenced) outputs.push_back(memory.data());
  std::vector<long> dims;
  for (const auto& [name, value] : problem.dims.items()) dims.push_back(value);
  for (int piece = 0; piece < pieces; ++piece)
    kernel(inputs.data(), outputs.data(), dims.data(), problem.params.data(),
           units * piece / pieces, units * (piece + 1) / pieces);
  Outputs result;
  for (Fenced& memory : fenced) {
    if (!memory.intact()) throw std::runtime_error("a byte beside an output was written");
    result.emplace_back(memory.data(), memory.data() + memory.bytes);
  }
  return result;
}

Outputs run_mlx(const Problem& problem, bool in_float32) {
  mx::set_default_device(mx::Device::cpu);
  std::vector<mx::array> inputs;
  for (size_t i = 0; i < problem.inputs.size(); ++i) {
    inputs.push_back(
        as_array(problem.inputs[i], problem.op->inputs[i].shape(problem.dims), problem.dtype));
    if (in_float32) inputs.back() = mx::astype(inputs.back(), mx::float32);
  }
  Outputs result;
  for (mx::array output : problem.op->mlx(inputs, problem.params)) {
    output = mx::contiguous(mx::astype(output, mlx_type(problem.dtype)));
    mx::eval(output);
    result.emplace_back(output.nbytes());
    std::memcpy(result.back().data(), output.data<std::byte>(), output.nbytes());
  }
  return result;
}

double bound_used(const Problem& problem, const Outputs& outputs) {
  const spec::ErrorBound bound = problem.op->bound(problem.dims);
  const double factor =
      bound.roundings * spec::unit_roundoff(problem.dtype) + bound.accumulated * 0x1p-24;
  const double tiny = spec::smallest_subnormal(problem.dtype);
  double largest = 0;
  for (size_t port = 0; port < outputs.size(); ++port)
    for (size_t i = 0; i < problem.expected[port].y.size(); ++i) {
      const double y =
          spec::load_element(outputs[port].data(), static_cast<int64_t>(i), problem.dtype);
      largest = std::max(largest, used(y, problem.expected[port].y[i],
                                       factor * problem.expected[port].scale[i] + tiny));
    }
  return largest;
}

void expect_rejected(const Mistake& mistake, const spec::Dims& size) {
  const spec::Op& op = find_op(mistake.op);
  const spec::Variant& variant = op.variants.front();
  std::string source = variant.source;
  const size_t at = source.find(mistake.right);
  ASSERT_NE(at, std::string::npos) << mistake.right;
  source.replace(at, mistake.right.size(), mistake.wrong);
  const Problem problem = make_problem(op, mistake.dtype, size, mistake.values, 9);
  const auto used = [&](const std::string& text) {
    const KernelFunction kernel = compile_kernel(
        variant, text, {"-DKD_DTYPE=" + std::to_string(static_cast<int>(mistake.dtype))});
    const int64_t units = variant.launch(problem.dims, {{"THREADS", 1}, {"GRAIN", 1}}).grid[0];
    return bound_used(problem, run_kernel(kernel, problem, units, 1, 0));
  };
  EXPECT_LE(used(variant.source), 1);
  EXPECT_GT(used(source), 1) << mistake.wrong << " in " << name_of(mistake.dtype);
}

bool same_pattern(const Outputs& a, const Outputs& b, spec::Dtype dtype) {
  for (size_t port = 0; port < a.size(); ++port)
    for (int64_t i = 0; i < static_cast<int64_t>(a[port].size()) / spec::size_of(dtype); ++i) {
      const float x = spec::load_element(a[port].data(), i, dtype);
      const float y = spec::load_element(b[port].data(), i, dtype);
      if (std::isnan(x) != std::isnan(y)) return false;
      if ((std::isinf(x) || std::isinf(y)) && !std::isnan(x) && x != y) return false;
    }
  return true;
}

}  // namespace mlx_kd::kernels
