// How fast is gemm on an NVIDIA GPU, compared with cuBLAS? In bfloat16, y = x W^T without a norm.
//
//   bench_cuda_gemm [MxNxK ...] > bench/results/cuda_gemm_<gpu>.json
//
// For each size the fastest of the settings of one block per multiprocessor is chosen by one pass;
// then both take turns, each turn a CUDA graph of some products, by the GPU's clock. A ratio is how
// many times longer cuBLAS takes, pair by pair. Needs libcublas.so.13 or .12.
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <future>
#include <iostream>
#include <utility>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/devices/cuda/call/stage_program.h"
#include "mlx_kd/devices/cuda/compile/cubin.h"
#include "mlx_kd/devices/cuda/driver/device_clock.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/search/space/points.h"

namespace {

namespace cuda = mlx_kd::devices::cuda;
using namespace mlx_kd;

constexpr int kPairs = 15, kProducts = 6;  // of a turn
constexpr int64_t kPattern = (int64_t{1} << 21) + 37;
constexpr auto kType = spec::Dtype::bfloat16;

// cublasGemmEx, by its numbers: 14 bfloat16, 68 sums in float32, -1 its own choice.
class Cublas {
 public:
  Cublas() {
    for (const char* name : {"libcublas.so.13", "libcublas.so.12"})
      if (!library_) library_ = dlopen(name, RTLD_NOW);
    if (!library_) base::fail("bench", std::string("no cuBLAS: ") + dlerror());
    find<int (*)(void**)>("cublasCreate_v2")(&handle_);
    product_ = find<Product>("cublasGemmEx");
  }
  void work_on(cuda::Stream stream) const {
    find<int (*)(void*, cuda::Stream)>("cublasSetStream_v2")(handle_, stream);
  }
  void product(const spec::Dims& dims, const void* x, const void* w, void* y) const {
    const auto size = [&](const char* name) { return static_cast<int>(dims.at(name)); };
    const float one = 1, zero = 0;
    const int status = product_(handle_, 1, 0, size("N"), size("M"), size("K"), &one, w, 14,
                                size("K"), x, 14, size("K"), &zero, y, 14, size("N"), 68, -1);
    if (status != 0) base::fail("bench", "cuBLAS says " + std::to_string(status));
  }

 private:
  using Product = int (*)(void*, int, int, int, int, int, const void*, const void*, int, int,
                          const void*, int, int, const void*, void*, int, int, int, int);
  template <class Function>
  Function find(const char* name) const {
    auto found = reinterpret_cast<Function>(dlsym(library_, name));
    if (!found) base::fail("bench", std::string("cuBLAS has no ") + name);
    return found;
  }

  void* library_ = nullptr;
  void* handle_ = nullptr;
  Product product_ = nullptr;
};

struct Candidate {
  spec::Setting knobs;
  std::shared_ptr<cuda::StageProgram> program;
};

const spec::Op& gemm() {
  return kernels::find_op("gemm");
}

const spec::Variant& variant() {
  for (const spec::Variant& one : gemm().variants)
    if (one.language == "cuda") return one;
  base::fail("bench", "gemm has no kernel in CUDA C++");
}

// Settings with tensor cores and a block per multiprocessor, compiled in parallel.
std::vector<Candidate> candidates(const devices::Device& device) {
  std::vector<std::future<Candidate>> made;
  const spec::Space space = variant().space(kType, device.id().traits);
  const search::Points points = search::Points::enumerate(space);
  for (size_t i = 0; i < points.size(); ++i) {
    const spec::Setting knobs = points.setting(i);
    if (!knobs.at("TENSOR") || knobs.at("BLOCKS") != 132) continue;
    made.push_back(std::async(std::launch::async, [&device, knobs, space] {
      const auto candidate =
          spec::make_candidate(gemm(), variant(), kType, knobs, space,
                               spec::complete(gemm(), gemm().suites.front().sizes.front()));
      const devices::Artifact artifact = device.compile(candidate, 60);
      if (!artifact.ok) base::fail("bench", artifact.error);
      return Candidate{
          knobs, std::dynamic_pointer_cast<cuda::StageProgram>(device.load(artifact, candidate))};
    }));
  }
  std::vector<Candidate> all;
  for (auto& one : made) all.push_back(one.get());
  return all;
}

class Numbers {
 public:
  Numbers(int64_t count, float scale, uint64_t seed) : count_(count), memory_(2 * count) {
    base::Random random(seed);
    std::vector<uint16_t> pattern(static_cast<size_t>(std::min(count, kPattern)));
    for (size_t i = 0; i < pattern.size(); ++i)
      spec::store_element(pattern.data(), static_cast<int64_t>(i), kType,
                          scale * static_cast<float>(random.normal()));
    for (int64_t at = 0; at < count; at += kPattern)
      cuda::write_memory(memory_.at() + static_cast<cuda::Address>(2 * at), pattern.data(),
                         static_cast<size_t>(2 * std::min(kPattern, count - at)));
  }
  void* at() const { return reinterpret_cast<void*>(memory_.at()); }
  std::vector<uint16_t> read() const {
    std::vector<uint16_t> all(static_cast<size_t>(count_));
    cuda::check(cuda::driver().read(all.data(), memory_.at(), all.size() * 2), "reading");
    return all;
  }

 private:
  int64_t count_;
  cuda::Memory memory_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double relative_difference(const Numbers& ours, const Numbers& theirs) {
  const auto a = ours.read(), b = theirs.read();
  double off = 0, all = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    const double y = spec::load_element(b.data(), at, kType);
    off += std::pow(spec::load_element(a.data(), at, kType) - y, 2);
    all += y * y;
  }
  return std::sqrt(off / all);
}

using Graph = std::unique_ptr<cuda::TimedGraph>;

// The candidate whose graph takes least, and its graph.
std::pair<const Candidate*, Graph> fastest(const std::vector<Candidate>& all,
                                           const std::function<Graph(const Candidate&)>& graph_of) {
  std::pair<const Candidate*, Graph> best;
  double least = 1e30;
  for (const Candidate& one : all) {
    auto graph = graph_of(one);
    const double us = std::min({graph->run(), graph->run(), graph->run()});
    if (us < least) least = us, best = {&one, std::move(graph)};
  }
  return best;
}

struct Pairs {
  std::vector<double> own, others, ratios;  // us of a product; theirs over ours
};

Pairs paired(cuda::TimedGraph& own, cuda::TimedGraph& other) {
  Pairs pairs;
  for (int i = 0; i < kPairs; ++i) {
    pairs.own.push_back(own.run() / kProducts);
    pairs.others.push_back(other.run() / kProducts);
    pairs.ratios.push_back(pairs.others.back() / pairs.own.back());
  }
  return pairs;
}

spec::Dims sizes_of(const std::string& size) {
  spec::Dims given;
  long m = 0, n = 0, k = 0;
  if (std::sscanf(size.c_str(), "%ldx%ldx%ld", &m, &n, &k) != 3)
    base::misuse("bench", "'" + size + "' is no size: give MxNxK");
  for (const auto& [name, value] : {std::pair{"M", m}, {"N", n}, {"K", k}}) given.set(name, value);
  return spec::complete(gemm(), given);
}

base::OrderedJson row_of(const std::vector<Candidate>& all, const Cublas& cublas,
                         const std::string& size) {
  const spec::Dims dims = sizes_of(size);
  const int64_t m = dims.at("M"), n = dims.at("N"), k = dims.at("K");
  const Numbers x(m * k, 1, 1), w(n * k, 0.02f, 2), none(8, 1, 3);
  const Numbers ours(m * n, 0, 4), theirs(m * n, 0, 5);
  const auto graph_of = [&](const Candidate& one) {
    const devices::Call call =
        devices::make_call(gemm(), variant(), kType, dims, one.knobs, {1e-5});
    one.program->prepare(call);
    return std::make_unique<cuda::TimedGraph>([&, call](cuda::Stream stream) {
      for (int i = 0; i < kProducts; ++i)
        one.program->queue({x.at(), w.at(), none.at(), none.at(), none.at()}, {ours.at()}, call,
                           stream);
    });
  };
  const auto [best, graph] = fastest(all, graph_of);
  cuda::TimedGraph other([&](cuda::Stream stream) {
    cublas.work_on(stream);
    for (int i = 0; i < kProducts; ++i) cublas.product(dims, x.at(), w.at(), theirs.at());
  });
  const auto [own, others, ratios] = paired(*graph, other);
  const auto [lo, hi] = std::minmax_element(ratios.begin(), ratios.end());
  const double flops =
      2e-6 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  return {{"size", size},
          {"setting", best->knobs.text()},
          {"us", median(own)},
          {"tflops", flops / median(own)},
          {"cublas_us", median(others)},
          {"cublas_tflops", flops / median(others)},
          {"ratio", median(ratios)},
          {"interval", {*lo, *hi}},
          {"difference", relative_difference(ours, theirs)}};
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<std::string> sizes(argv + 1, argv + argc);
  if (sizes.empty())
    sizes = {"4096x4096x4096", "8192x8192x8192", "4095x4097x4099", "512x4096x4096",
             "2048x12288x4096"};
  const auto device = devices::open_device("cuda");
  cuda::use_gpu();
  const Cublas cublas;
  const std::vector<Candidate> all = candidates(*device);
  base::OrderedJson rows = base::OrderedJson::array();
  for (const std::string& size : sizes) {
    rows.push_back(row_of(all, cublas, size));
    std::cerr << rows.back().dump() << "\n";
  }
  const base::OrderedJson result = {
      {"what",
       "gemm in bfloat16 compared with cuBLAS, y = x W^T of M x K and N x K: us by the "
       "GPU's clock in CUDA graphs of " +
           std::to_string(kProducts) + " products"},
      {"date", base::iso_time_now()},
      {"machine", {{"gpu", cuda::gpu().name}, {"compiler", cuda::nvrtc_version()}}},
      {"settings", all.size()},
      {"rows", rows}};
  std::cout << result.dump(1) << "\n";
  return 0;
} catch (const base::Error& error) {
  std::cerr << error.what() << "\n";
  return error.exit_code();
}
