// What an operation costs the host inside a graph of MLX on an NVIDIA GPU: MLX's own operators,
// kernels through precompiled_cuda_kernel, and kernels as nodes of MLX's graphs, alone and in
// chains that mix both.
//
//   bench_cuda_native [ROUNDS] > bench/results/cuda_native_<gpu>.json
//
// Sizes are those of decoding (1 x 4096), where the GPU waits for the host. A round builds and
// evaluates every chain some times, in turn; a figure is the median over rounds, divided by the
// number of operations, with the least one beside it. The second half of the rows is measured by a
// process of its own with MLX_KD_CUDA_NATIVE=0.
#include <mlx/fast.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>
#include <mlx/version.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <future>
#include <iostream>
#include <thread>

#include "bench/cuda_native_steps.h"
#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/process.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/devices/cuda/call/native_module.h"
#include "mlx_kd/devices/cuda/call/stage_program.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/host/cpu_info.h"
#include "mlx_kd/kernels/op_table.h"

namespace {

namespace mx = mlx::core;
namespace cuda = mlx_kd::devices::cuda;
using namespace mlx_kd;
using bench::kElements;
using bench::Step;
using bench::Steps;

constexpr int kChain = 200, kLayers = 40, kTurns = 4;

struct Chain {
  std::string name;
  int operations, kernels;  // of one chain; both count what is measured, ours or MLX's
  std::function<std::vector<mx::array>(mx::array)> run;
  std::vector<double> us = {}, first_us = {}, build_us = {};
};

Chain chain_of(const std::string& name, int operations, int kernels_each, const Step& step) {
  return {name, operations, operations * kernels_each, [operations, step](mx::array y) {
            for (int i = 0; i < operations; ++i) y = step(y);
            return std::vector<mx::array>{y};
          }};
}

// Calls that do not wait for one another, as claims are measured.
Chain independent(const std::string& name, const Step& step) {
  constexpr int kCalls = 40;
  return {name, kCalls, kCalls, [step](const mx::array& x) {
            std::vector<mx::array> results;
            for (int i = 0; i < kCalls; ++i) results.push_back(step(x));
            return results;
          }};
}

// `step` after each of MLX's own exp: the figure is that of both.
Chain mixed_chain(const std::string& name, int kernels_each, const Step& step) {
  return {name, kChain, kChain / 2 * (1 + kernels_each), [step](mx::array y) {
            for (int i = 0; i < kChain / 2; ++i)
              y = step(mx::multiply(y, mx::array(0.5f, y.dtype())));
            return std::vector<mx::array>{y};
          }};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// MLX keeps a graph by its nodes and edges, whatever their kernels are: chains of one form take
// turns in one graph, and the first evaluation of a turn replaces all of its kernels. `first` is
// that one's time; a model, which repeats its graphs, has the others'.
void measure(std::vector<Chain>& chains, const mx::array& x, int rounds) {
  for (int round = -5; round < rounds; ++round)
    for (Chain& chain : chains)
      for (int turn = 0; turn < kTurns; ++turn) {
        const int64_t start = base::steady_ns();
        const std::vector<mx::array> results = chain.run(x);
        const double build_us = 1e6 * base::seconds_since(start);
        mx::eval(results);
        const double us = 1e6 * base::seconds_since(start);
        if (round < 0) continue;
        (turn == 0 ? chain.first_us : chain.us).push_back(us);
        chain.build_us.push_back(build_us);
      }
}

double rounded(double us) {
  return std::round(1000 * us) / 1000;
}

// How many times as long as the first chain of its group, evaluation by evaluation.
double ratio_to(const Chain& first, const Chain& chain) {
  std::vector<double> ratios;
  for (size_t i = 0; i < chain.us.size(); ++i)
    ratios.push_back(chain.us[i] / chain.operations / (first.us[i] / first.operations));
  return median(ratios);
}

base::OrderedJson rows_of(const std::vector<Chain>& chains) {
  base::OrderedJson rows = base::OrderedJson::array();
  for (const Chain& chain : chains) {
    const auto each = [&](double us) { return rounded(us / chain.operations); };
    rows.push_back(
        {{"chain", chain.name},
         {"operations", chain.operations},
         {"us_per_operation", each(median(chain.us))},
         {"of_first_in_group", rounded(ratio_to(chains.front(), chain))},
         {"least_us_per_operation", each(*std::min_element(chain.us.begin(), chain.us.end()))},
         {"first_us_per_operation", each(median(chain.first_us))},
         {"build_us_per_operation", each(median(chain.build_us))},
         {"us_per_kernel", rounded(median(chain.us) / chain.kernels)}});
  }
  return rows;
}

// Of one setting, in the place of the winner of a search.
struct Tried {
  spec::Setting knobs;
  std::shared_ptr<devices::Program> program;
  double kernel_us = 0;
};

// An operator of the table in bfloat16 on one row, MLX's or ours: the fastest of its default and of
// random settings, by the GPU's clock, as a search would pin it.
class Operator {
 public:
  Operator(const devices::Device& device, const std::string& name)
      : device_(device),
        op_(kernels::find_op(name)),
        variant_(*std::find_if(op_.variants.begin(), op_.variants.end(),
                               [](const auto& one) { return one.language == "metal"; })),
        dims_(spec::complete(op_, {{"rows", 1}, {"D", kElements}})),
        space_(variant_.space(kType, device.id().traits)) {
    for (const spec::Port& port : op_.outputs) shapes_.push_back(shape_of(port));
    for (size_t i = 1; i < op_.inputs.size(); ++i)
      others_.push_back(mx::random::normal(shape_of(op_.inputs[i]), mx::bfloat16));
    mx::eval(others_);
    choose();
  }
  mx::array ours(const mx::array& x) const {
    return best_.program->add_to_graph(inputs(x), shapes_, call_,
                                       {mx::default_stream(mx::Device::gpu)})[0];
  }
  base::OrderedJson row() const {
    return {{"operator", op_.name},
            {"setting", best_.knobs.text()},
            {"kernel_us", rounded(best_.kernel_us)},
            {"default_kernel_us", rounded(default_us_)}};
  }
  mx::array mlxs(const mx::array& x) const {
    return op_.mlx(inputs(x), call_.scalars, mx::default_stream(mx::Device::gpu))[0];
  }

 private:
  mx::Shape shape_of(const spec::Port& port) const {
    const spec::Shape shape = port.shape(dims_);
    return mx::Shape(shape.begin(), shape.end());
  }
  std::vector<mx::array> inputs(const mx::array& x) const {
    std::vector<mx::array> all = {x};
    all.insert(all.end(), others_.begin(), others_.end());
    return all;
  }

  devices::Call call_of(const spec::Setting& knobs) const {
    return devices::make_call(op_, variant_, kType, dims_, knobs, spec::default_scalars(op_));
  }
  std::vector<spec::Setting> settings() const {
    std::vector<spec::Setting> result = {spec::default_setting(space_)};
    base::Random random(7);
    while (result.size() < kSettings) {
      spec::Setting one;
      for (const spec::Knob& knob : space_.knobs)
        one.set(knob.name, knob.values[random.below(knob.values.size())]);
      if (spec::is_valid(space_, one)) result.push_back(one);
    }
    return result;
  }
  Tried load(const spec::Setting& knobs) const {
    const spec::Candidate candidate =
        spec::make_candidate(op_, variant_, kType, knobs, space_, dims_);
    const devices::Artifact artifact = device_.compile(candidate, 60);
    if (!artifact.ok) base::fail("bench", artifact.error);
    return {knobs, device_.load(artifact, candidate)};
  }
  double time(const Tried& tried) const {
    const devices::Accelerator& gpu = *device_.accelerator();
    const devices::Call call = call_of(tried.knobs);
    devices::DeviceArrays arrays;
    std::vector<void*> memory;
    const auto array_of = [&](const spec::ArraySpec& array) {
      memory.push_back(gpu.allocate(array.bytes()));
      gpu.fill(memory.back(), 0x3c, array.bytes());
      return memory.back();
    };
    for (const auto& one : call.inputs) arrays.inputs.push_back(array_of(one));
    for (const auto& one : call.outputs) arrays.outputs.push_back(array_of(one));
    constexpr size_t kCalls = 50;
    double best = 1e30;
    {
      const auto sample = gpu.sample(*tried.program, call,
                                     std::vector<devices::DeviceArrays>(kCalls, arrays), false);
      for (int i = 0; i < 5; ++i) best = std::min(best, sample->run() / kCalls);
    }
    for (void* one : memory) gpu.release(one);
    return best;
  }
  void choose() {
    const std::vector<spec::Setting> all = settings();
    for (size_t from = 0; from < all.size(); from += kAtOnce) {
      std::vector<std::future<Tried>> loading;
      for (size_t i = from; i < std::min(from + kAtOnce, all.size()); ++i)
        loading.push_back(std::async(std::launch::async, [this, &all, i] { return load(all[i]); }));
      for (auto& one : loading) {
        Tried tried = one.get();
        tried.kernel_us = time(tried);
        if (tried.knobs == all.front()) default_us_ = tried.kernel_us;
        if (!best_.program || tried.kernel_us < best_.kernel_us) best_ = std::move(tried);
      }
    }
    call_ = call_of(best_.knobs);
  }

  static constexpr spec::Dtype kType = spec::Dtype::bfloat16;
  static constexpr size_t kSettings = 192, kAtOnce = 16;

  const devices::Device& device_;
  const spec::Op& op_;
  const spec::Variant& variant_;
  spec::Dims dims_;
  spec::Space space_;
  Tried best_;
  double default_us_ = 0;
  devices::Call call_;
  std::vector<mx::Shape> shapes_;
  std::vector<mx::array> others_;
};

// Layers of an operator and MLX's own operations, as a model has them.
Chain model_chain(const std::string& name, const Step& step) {
  const mx::array w = mx::random::uniform(0.5, 1.0, {1, kElements}, mx::bfloat16);
  mx::eval(w);
  return {name, 4 * kLayers, 4 * kLayers, [w, step](mx::array y) {
            for (int i = 0; i < kLayers; ++i) y = mx::sigmoid(mx::add(mx::multiply(step(y), w), y));
            return std::vector<mx::array>{y};
          }};
}

// Chains that are compared are measured together, and no others with them: each has graphs of its
// own, which compete for the processor's caches.
class Groups {
 public:
  explicit Groups(int rounds) : rounds_(rounds) {}
  void measure_on(const mx::array& x, std::vector<Chain> chains) {
    measure(chains, x, rounds_);
    for (const auto& row : rows_of(chains)) rows_.push_back(row);
  }
  const base::OrderedJson& rows() const { return rows_; }
  base::OrderedJson operators = base::OrderedJson::array();

 private:
  int rounds_;
  base::OrderedJson rows_ = base::OrderedJson::array();
};

mx::array mlx_exp(const mx::array& y) {
  return mx::exp(y);
}

void measure_stages(Groups& groups) {
  const mx::array one = mx::ones({kElements});
  const mx::array x = mx::random::uniform({kElements});
  mx::eval(one, x);
  const Chain add =
      chain_of("MLX: add", kChain, 1, [one](const mx::array& y) { return mx::add(y, one); });
  const Chain norm = chain_of("MLX: fast::rms_norm", kChain, 1, [one](const mx::array& y) {
    return mx::fast::rms_norm(y, one, 1e-5f);
  });
  const Chain exp = chain_of("MLX: exp", kChain, 1, mlx_exp);
  const Chain mixed = mixed_chain("mixed: multiply and MLX's exp", 1, mlx_exp);
  if (!cuda::find_native()) return groups.measure_on(x, {exp, add, norm, mixed});
  for (const int stages : {1, 4, 16}) {
    const std::string text = "native, " + std::to_string(stages) + " stages";
    const Steps steps(stages);
    groups.measure_on(
        x, {exp, norm, chain_of(text, kChain / stages, stages, steps),
            chain_of(text + ", three parameters", kChain / stages, stages, steps.by_pointers())});
    groups.measure_on(x, {mixed, mixed_chain("mixed: multiply and " + text, stages, steps)});
  }
}

void measure_operators(Groups& groups) {
  const std::string way = cuda::find_native() ? "native" : "precompiled_cuda_kernel";
  const mx::array row = mx::random::normal({1, kElements}, mx::bfloat16);
  mx::eval(row);
  const auto device = devices::open_device("cuda");
  for (const std::string name : {"rmsnorm", "rmsnorm_residual", "swiglu"}) {
    const auto op = std::make_shared<Operator>(*device, name);
    groups.operators.push_back(op->row());
    const Step ours = [op](const mx::array& y) { return op->ours(y); };
    const Step mlxs = [op](const mx::array& y) { return op->mlxs(y); };
    groups.measure_on(row, {chain_of(name + ", MLX", kChain, 1, mlxs),
                            chain_of(name + ", " + way, kChain, 1, ours)});
    groups.measure_on(row, {independent("independent: " + name + ", MLX", mlxs),
                            independent("independent: " + name + ", " + way, ours)});
    groups.measure_on(row,
                      {model_chain("model: " + name + " of MLX and 3 operations", mlxs),
                       model_chain("model: " + name + ", " + way + ", and 3 operations", ours)});
  }
}

base::OrderedJson measure_all(int rounds) {
  Groups groups(rounds);
  measure_stages(groups);
  measure_operators(groups);
  return {{"rows", groups.rows()}, {"operators", groups.operators}};
}

base::OrderedJson measure_without(int rounds) {
  setenv("MLX_KD_CUDA_NATIVE", "0", 1);
  const base::ProcessResult result =
      base::run_process({"/proc/self/exe", std::to_string(rounds), "rows"}, 600);
  if (!result.ok()) base::fail("bench", "the second process failed: " + result.output);
  return base::OrderedJson::parse(result.output);
}

}  // namespace

int main(int argc, char** argv) try {
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 60;
  mx::set_default_device(mx::Device::gpu);
  const base::OrderedJson all = measure_all(rounds);
  if (argc > 2) {
    std::cout << all["rows"].dump() << "\n";
    return 0;
  }
  const base::OrderedJson result = {
      {"what",
       "what an operation costs the host inside a graph of MLX, 4,096 elements an array: "
       "bench_cuda_native " +
           std::to_string(rounds)},
      {"date", base::iso_time_now()},
      {"machine",
       {{"gpu", cuda::gpu().name},
        {"processor", devices::cpu::make_cpu_id().name},
        {"cores", std::thread::hardware_concurrency()},
        {"mlx", mx::version()},
        {"compiler", cuda::nvrtc_version()}}},
      {"rounds", rounds},
      {"reading",
       "Chains of a group take turns in one graph of MLX and the host has slow and fast moments: "
       "compare rows of a group. of_first_in_group: the median ratio to its first chain, "
       "evaluation by evaluation. first_us: the first of four evaluations, which replaces all "
       "kernels of the graph; build_us: without the evaluation. Operators run the fastest of 192 "
       "settings, by the GPU's clock."},
      {"operators", all["operators"]},
      {"native", all["rows"]},
      {"without", measure_without(rounds)}};
  std::cout << result.dump(1) << "\n";
  return 0;
} catch (const base::Error& error) {
  std::cerr << error.what() << "\n";
  return error.exit_code();
}
