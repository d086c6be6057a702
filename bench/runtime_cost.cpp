// What the runtime adds to a program: lookups with 10,000 pins on 8 threads, a pinned call beside
// the bare primitive, a call without a pin beside MLX's operator, and the shape log.
//
//   bench_runtime_cost FOLDER > bench/results/runtime.json
//
// FOLDER (private to the user) takes the pack and the log. Lookups are timed by each thread's own
// processor time, so that 8 threads on fewer cores mean something; the rest in pairs, alternating,
// as medians of the differences.
#include <mlx/fast.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>
#include <mlx/version.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/packs/pack.h"
#include "mlx_kd/runtime/call/ops.h"
#include "mlx_kd/runtime/state/call_counts.h"
#include "mlx_kd/runtime/state/process.h"
#include "mlx_kd/runtime/state/stats.h"

namespace {

namespace mx = mlx::core;
namespace rt = mlx_kd::runtime;
using namespace mlx_kd;

constexpr int kPins = 10000, kThreads = 8, kLookups = 2000000, kOps = 100, kRounds = 400;

constexpr int kMeasured = 3100;  // rows 1, D 2048

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

double thread_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return 1e9 * static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec);
}

// One real kernel at many sizes: rows 1 to 100, D 64 to 6400.
packs::Pack many_pins(const spec::DeviceId& device) {
  const spec::Op& op = kernels::find_op("rmsnorm");
  const auto variant = std::find_if(op.variants.begin(), op.variants.end(),
                                    [](const auto& v) { return v.language == "cpp"; });
  const spec::Space space = variant->space(spec::Dtype::float32, device.traits);
  packs::Pack pack;
  for (int i = 0; i < kPins; ++i) {
    const spec::Dims dims = spec::complete(op, {{"rows", 1 + i % 100}, {"D", 64 * (1 + i / 100)}});
    const auto candidate = spec::make_candidate(op, *variant, spec::Dtype::float32,
                                                spec::default_setting(space), space, dims);
    pack.entries.push_back(
        packs::make_entry(candidate, {dims, {}, "bench", {{"eps", 1e-6}}, base::Json::object()},
                          device, mx::version()));
    // A pack with this text 10,000 times would be larger than packs may be.
    if (i != kMeasured) pack.entries.back().source = "int unused;";
  }
  return pack;
}

std::vector<rt::Query> queries() {
  uint64_t generation = 0;
  const auto table = rt::Process::shared().table(generation);
  std::vector<rt::Query> all;
  for (const rt::Pin& pin : table->pins()) {
    all.push_back(pin.key);
    all.back().params = {1e-6};
  }
  base::Random random(1);
  for (size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[random.below(i)]);
  return all;
}

// ns a lookup of every thread; `look(query)` says whether it found something.
template <class Look>
std::vector<double> on_threads(const std::vector<rt::Query>& asked, const Look& look) {
  std::vector<double> ns(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      for (const rt::Query& query : asked) look(query);  // a thread's first call of a size
      size_t found = 0, at = static_cast<size_t>(t) * 1250 % asked.size();
      const double start = thread_ns();
      for (int i = 0; i < kLookups; ++i) {
        found += look(asked[at]);
        if (++at == asked.size()) at = 0;
      }
      ns[static_cast<size_t>(t)] = (thread_ns() - start) / kLookups;
      if (found != kLookups) std::abort();
    });
  for (std::thread& thread : threads) thread.join();
  return ns;
}

// The same with one size, as the layers of a decoder ask.
std::vector<double> one_size(const std::vector<rt::Query>& all) {
  return on_threads({all.front()}, [](const rt::Query& query) {
    return rt::Ledger::mine().find(query).served != nullptr;
  });
}

base::Json lookups(const std::vector<rt::Query>& all) {
  uint64_t generation = 0;
  const auto table = rt::Process::shared().table(generation);
  const auto by_ledger = on_threads(
      all, [](const rt::Query& query) { return rt::Ledger::mine().find(query).served != nullptr; });
  const auto by_table =
      on_threads(all, [&](const rt::Query& query) { return table->find(query) != nullptr; });
  return {{"pins", kPins},
          {"threads", kThreads},
          {"ns_random_sizes_by_thread", by_ledger},
          {"ns_one_size_by_thread", one_size(all)},
          {"ns_shared_table_random_sizes_by_thread", by_table}};
}

// Differences of b - a, in us an op, each side kOps calls in a row; evaluated where `eval` says so.
template <class A, class B>
base::Json pairs(const A& a, const B& b, bool eval) {
  const auto time = [&](const auto& one) {
    std::vector<mx::array> outputs;
    outputs.reserve(kOps);
    const int64_t start = base::steady_ns();
    for (int i = 0; i < kOps; ++i) outputs.push_back(one());
    if (eval) mx::eval(outputs);
    return 1e6 * base::seconds_since(start) / kOps;
  };
  std::vector<double> difference, first, second;
  for (int round = 0; round < kRounds; ++round) {
    const bool swapped = round % 2;
    double x = swapped ? 0 : time(a);
    const double y = time(b);
    if (swapped) x = time(a);
    first.push_back(x);
    second.push_back(y);
    difference.push_back(y - x);
  }
  return {
      {"us_bare", median(first)}, {"us_runtime", median(second)}, {"us_added", median(difference)}};
}

base::Json pinned_calls() {
  uint64_t generation = 0;
  const auto table = rt::Process::shared().table(generation);
  const mx::array x = mx::ones({1, 2048}), w = mx::ones({2048});
  mx::eval(rt::rmsnorm(x, w));
  rt::Query query;
  query.op = rt::find_operator("rmsnorm")->index;
  query.dims = {1, 2048};
  query.params = {1e-6};
  const rt::Pin* pin = table->find(query);
  const devices::Program* program = pin->served->kernel->program(true);
  const auto bare = [&] { return program->call({x, w}, {{1, 2048}}, pin->served->call)[0]; };
  const auto by_runtime = [&] { return rt::rmsnorm(x, w); };
  return {{"op", "rmsnorm float32 rows=1,D=2048"},
          {"graph_building", pairs(bare, by_runtime, false)},
          {"in_a_graph_of_100", pairs(bare, by_runtime, true)}};
}

// As little work as there is, so that the difference is not lost in it.
base::Json unpinned_calls() {
  const mx::array x = mx::ones({1, 10}), w = mx::ones({10});
  const auto bare = [&] { return mx::fast::rms_norm(x, w, 1e-6f); };
  const auto by_runtime = [&] { return rt::rmsnorm(x, w); };
  return {{"op", "rmsnorm float32 rows=1,D=10"},
          {"graph_building", pairs(bare, by_runtime, false)},
          {"in_a_graph_of_100", pairs(bare, by_runtime, true)}};
}

// ns that the log adds to a call, in blocks of 2560 calls (ten flushes).
base::Json shape_log(const std::string& file) {
  const mx::array x = mx::ones({1, 2048}), w = mx::ones({2048});
  const auto block = [&] {
    const int64_t start = base::steady_ns();
    for (int i = 0; i < 2560; ++i) rt::rmsnorm(x, w);
    return 1e9 * base::seconds_since(start) / 2560;
  };
  std::vector<double> off, on, added;
  for (int round = 0; round < 200; ++round) {
    ::unsetenv("MLX_KD_SHAPE_LOG");
    rt::reload();
    block();
    off.push_back(block());
    ::setenv("MLX_KD_SHAPE_LOG", file.c_str(), 1);
    rt::reload();
    block();
    on.push_back(block());
    added.push_back(on.back() - off.back());
  }
  return {
      {"ns_call_without", median(off)}, {"ns_call_with", median(on)}, {"ns_added", median(added)}};
}

int measure(const std::string& folder) {
  const auto device = devices::open_device("cpu");
  const std::string file = folder + "/bench_pins.json";
  packs::write_pack(file, many_pins(device->id()));
  const int64_t start = base::steady_ns();
  rt::enable(file);
  const double load_ms = 1e3 * base::seconds_since(start);
  base::OrderedJson result = {{"date", base::iso_time_now()},
                              {"machine",
                               {{"cpu", device->id().name},
                                {"arch", device->id().arch},
                                {"cores", device->id().traits.cores}}},
                              {"mlx_version", mx::version()},
                              {"load_ms_of_10000_pins", load_ms},
                              {"lookup", lookups(queries())},
                              {"pinned", pinned_calls()},
                              {"unpinned", unpinned_calls()}};
  rt::disable();
  result["off"] = unpinned_calls();
  packs::Pack small;
  small.entries = {many_pins(device->id()).entries[kMeasured]};
  packs::write_pack(file, small);
  rt::enable(file);
  result["shape_log"] = shape_log(folder + "/bench_shapes.jsonl");
  std::cout << result.dump(2) << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) base::misuse("bench", "usage: bench_runtime_cost FOLDER");
  return measure(argv[1]);
} catch (const base::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
