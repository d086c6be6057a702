// Takes samples of a run's winner, and of a plain copy of as many bytes, one at a time on request,
// so that another program can interleave them with samples of its own (bench/peers.py).
//
//   bench_peer_server RUN_DIR
//
// For the run's first size. stdin: lines "kernel", "copy" or "graph"; stdout: one JSON line that
// says what is measured, then us a line. A sample is one call. The sets of arrays rotate and are
// together several times larger than the caches, so every call finds its arrays in memory.
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>

#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/kernels/op_table.h"

namespace {

namespace mx = mlx::core;
using namespace mlx_kd;

constexpr int64_t kTouchedBetween = int64_t(256)
                                    << 20;  // bytes: several times the last-level cache
constexpr int64_t kCopyUnit = 4096;         // bytes
constexpr const char* kCopySource = R"(
extern "C" void mlx_kd_copy(const void* const* in, void* const* out, const long*, const double*, long begin, long end) {
  __builtin_memcpy((char*)out[0] + begin * 4096, (const char*)in[0] + begin * 4096, (end - begin) * 4096);
}
)";

mx::Dtype mlx_dtype(spec::Dtype dtype) {
  return dtype == spec::Dtype::float32   ? mx::float32
         : dtype == spec::Dtype::float16 ? mx::float16
                                         : mx::bfloat16;
}

// Memory of `bytes`, filled with normal-looking values of the type; lives as long as the process.
void* filled(int64_t bytes, spec::Dtype dtype) {
  void* memory = std::aligned_alloc(4096, static_cast<size_t>((bytes + 4095) / 4096 * 4096));
  base::Random random(1);
  for (int64_t i = 0; i < bytes / spec::size_of(dtype); ++i)
    spec::store_element(memory, i, dtype, static_cast<float>(random.uniform() * 4 - 2));
  return memory;
}

struct Set {
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
  std::vector<mx::array> arrays;
};

class Server {
 public:
  explicit Server(const std::string& run_dir) : device_(devices::open_device("cpu")) {
    const auto run = archive::read_run(run_dir);
    op_ = &kernels::find_op(run.meta.op_name);
    dims_ = run.meta.sizes.front();
    dtype_ = spec::parse_float_dtype(run.meta.dtype);
    if (!run.finish || run.finish->winners.empty())
      base::misuse("bench", run_dir + " has no winner: run kd run first");
    const auto& id = run.finish->winners.front().candidate_id;
    const auto& record = *std::find_if(run.records.begin(), run.records.end(),
                                       [&](const auto& r) { return r.candidate_id == id; });
    load(record.candidate);
    load_copy(record.candidate);
    make_sets();
    std::cout << base::Json{{"op", op_->name}, {"shape", dims_.json()}, {"dtype", run.meta.dtype},
                            {"bytes", bytes_}, {"candidate_id", id},    {"sets", sets_.size()}}
                     .dump()
              << std::endl;
  }

  double kernel() {
    const Set& set = next();
    return timed([&] { program_->launch(set.inputs, set.outputs, call_); });
  }

  double copy() {
    const Set& set = next();
    return timed([&] { copy_->launch({set.inputs[0]}, {set.outputs[0]}, copy_call_); });
  }

  double graph() {
    const Set& set = next();
    return timed([&] { mx::eval(program_->call(set.arrays, shapes_, call_)); });
  }

 private:
  static double timed(const std::function<void()>& work) {
    const int64_t start = base::steady_ns();
    work();
    return 1e-3 * static_cast<double>(base::steady_ns() - start);
  }

  std::shared_ptr<devices::Program> compiled(const spec::Candidate& candidate) const {
    const auto artifact = device_->compile(candidate, 60);
    if (!artifact.ok) base::fail("bench", "a kernel does not compile: " + artifact.error);
    return device_->load(artifact, candidate);
  }

  void load(const spec::Candidate& candidate) {
    program_ = compiled(candidate);
    call_ = devices::make_call(*op_, spec::variant_of(*op_, candidate), dtype_, dims_,
                               candidate.knobs, spec::default_scalars(*op_));
    for (const auto& port : op_->outputs) shapes_.push_back(port.shape(dims_));
  }

  // A copy reads half of the bytes and writes the other half, on all cores.
  void load_copy(spec::Candidate like) {
    like.source = kCopySource;
    like.func_name = "mlx_kd_copy";
    copy_ = compiled(like);
    bytes_ = spec::cost_of(*op_, dims_, dtype_).bytes;
    const auto units = static_cast<int64_t>(bytes_) / 2 / kCopyUnit;
    const int cores = device_->id().traits.cores;
    copy_call_ = {
        dims_, {}, {{"mlx_kd_copy", {{units, 1, 1}, {(units + cores - 1) / cores, 1, 1}, cores}}}};
  }

  void make_sets() {
    const auto count = std::max<int64_t>(2, kTouchedBetween / static_cast<int64_t>(bytes_) + 1);
    const auto half = static_cast<int64_t>(bytes_) / 2 + kCopyUnit;
    for (int64_t s = 0; s < count; ++s) {
      Set set;
      for (const auto& port : op_->inputs) {
        const auto shape = port.shape(dims_);
        const int64_t bytes = spec::element_count(shape) * spec::size_of(dtype_);
        set.inputs.push_back(filled(set.inputs.empty() ? std::max(bytes, half) : bytes, dtype_));
        set.arrays.emplace_back(const_cast<void*>(set.inputs.back()),
                                mx::Shape(shape.begin(), shape.end()), mlx_dtype(dtype_),
                                [](void*) {});
      }
      for (const auto& port : op_->outputs) {
        const int64_t bytes = spec::element_count(port.shape(dims_)) * spec::size_of(dtype_);
        set.outputs.push_back(filled(set.outputs.empty() ? std::max(bytes, half) : bytes, dtype_));
      }
      sets_.push_back(std::move(set));
    }
  }

  const Set& next() { return sets_[turn_++ % sets_.size()]; }

  std::shared_ptr<const devices::Device> device_;
  const spec::Op* op_ = nullptr;
  spec::Dims dims_;
  spec::Dtype dtype_ = spec::Dtype::float32;
  std::shared_ptr<devices::Program> program_, copy_;
  devices::Call call_, copy_call_;
  std::vector<spec::Shape> shapes_;
  std::vector<Set> sets_;
  double bytes_ = 0;
  size_t turn_ = 0;
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) base::misuse("bench", "usage: bench_peer_server RUN_DIR");
  Server server(argv[1]);
  const std::map<std::string, double (Server::*)()> samples = {
      {"kernel", &Server::kernel}, {"copy", &Server::copy}, {"graph", &Server::graph}};
  for (std::string line; std::getline(std::cin, line);) {
    const auto sample = samples.find(line);
    if (sample == samples.end())
      base::misuse("bench", "'" + line + "' is no sample: kernel, copy or graph");
    std::cout << (server.*sample->second)() << std::endl;
  }
  return 0;
} catch (const base::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
