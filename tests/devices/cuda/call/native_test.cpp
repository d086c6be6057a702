// Kernels of ours as nodes of MLX's CUDA graphs, and kernels in CUDA C++ on memory of their own.
// All but what is said otherwise needs a GPU and the native module.
#include <mlx/compile.h>
#include <mlx/fast.h>
#include <mlx/memory.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <optional>
#include <thread>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/metal_text/metal_kernel.h"
#include "tests/devices/cuda/cuda_kernels.h"
#include "tests/devices/cuda/gpu_arrays.h"
#include "tests/devices/cuda/refusals.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;

TEST(StageProgramOnItsOwnMemory, RunsStagesWithScratchAndLargeSharedMemory) {
  KD_NEEDS_GPU();
  const auto program = load(totals_candidate());
  constexpr int64_t kRows = 5, kColumns = 1003;
  std::vector<float> x(kRows * kColumns);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17);
  GpuArrays arrays;
  void* in = arrays.add(x);
  void* total = arrays.add(std::vector<float>(kRows, -1));
  void* seen = arrays.add(std::vector<unsigned>(kRows, 0));
  Call call = totals_call(kRows, kColumns, 0.5);
  program->launch({in}, {total, seen}, call);
  const auto totals = arrays.read<float>(1, kRows);
  for (size_t row = 0; row < kRows; ++row) {
    float expected = 0;
    for (size_t j = 0; j < kColumns; ++j) expected += x[row * kColumns + j];
    EXPECT_EQ(totals[row], 0.5f * expected);  // small integers: exact in any order
  }
  EXPECT_EQ(arrays.read<unsigned>(2, kRows), std::vector<unsigned>(kRows, 407));
}

TEST(StageProgramOnItsOwnMemory, LaunchesClusters) {
  KD_NEEDS_GPU();
  if (gpu().sm < 90) GTEST_SKIP() << "sm_" << gpu().sm << " has no clusters";
  GpuArrays arrays;
  void* in = arrays.add(std::vector<int>(8, 0));
  void* out = arrays.add(std::vector<int>(8, -1));
  load(clusters_candidate())->launch({in}, {out}, clusters_call(8, 4));
  EXPECT_EQ(arrays.read<int>(1, 8), (std::vector<int>{400, 401, 402, 403, 400, 401, 402, 403}));
}

TEST(StageProgramOnItsOwnMemory, SaysWhatItCannotLaunch) {
  KD_NEEDS_GPU();
  const auto program = load(totals_candidate());
  Call call = totals_call(4, 64, 1);
  call.stages[1].func_name = "kd_nowhere";
  EXPECT_TRUE(has(refusal_of([&] {
                    program->launch({nullptr}, {nullptr, nullptr}, call);
                  }),
                  "totals.cu has no kernel 'kd_nowhere'"));
  call = totals_call(4, 64, 1);
  call.stages[0].launch.shared_bytes = int64_t{1} << 20;
  EXPECT_TRUE(has(refusal_of([&] {
                    program->launch({nullptr}, {nullptr, nullptr}, call);
                  }),
                  "1048576 bytes of shared memory"));
}

TEST(StageProgramOnItsOwnMemory, IsTimedInAGraph) {
  KD_NEEDS_GPU();
  const auto program = load(totals_candidate());
  const Call call = totals_call(16, 4096, 1);
  GpuArrays arrays;
  void* in = arrays.add(std::vector<float>(16 * 4096, 1));
  void* total = arrays.add(std::vector<float>(16, 0));
  void* seen = arrays.add(std::vector<unsigned>(16, 0));
  program->prepare(call);
  const OwnStream stream;
  program->queue({in}, {total, seen}, call, stream);
  check(driver().stream_wait(stream), "waiting");
}

class Native : public testing::Test {
 protected:
  void SetUp() override {
    KD_NEEDS_NATIVE();
    mx::set_default_device(mx::Device::gpu);
  }
  void TearDown() override { mx::set_default_device(mx::Device::cpu); }

  static GraphCall here(const MlxForm* form = nullptr) {
    return {mx::default_stream(mx::Device::gpu), form};
  }
  static mx::array steps(const StageProgram& program, const mx::array& x, int64_t stages,
                         const MlxForm* form = nullptr) {
    const auto count = static_cast<int64_t>(x.size());
    return program.add_to_graph({x}, {x.shape()}, steps_call(count, stages), here(form))[0];
  }
  static bool same(const mx::array& a, const mx::array& b) {
    return mx::array_equal(a, b).item<bool>();
  }
};

TEST_F(Native, RunsStagesAmongOperationsOfMlx) {
  const auto program = load(totals_candidate());
  const mx::array x = mx::astype(mx::random::randint(0, 9, {6, 300}), mx::float32);
  const auto made =
      program->add_to_graph({mx::add(x, x)}, {{6}, {6}}, totals_call(6, 300, 0.5), here());
  EXPECT_TRUE(same(mx::exp(mx::multiply(made[0], mx::array(1e-3f))),
                   mx::exp(mx::multiply(mx::sum(x, 1), mx::array(1e-3f)))));
  EXPECT_TRUE(same(made[1], mx::full({6}, 407u, mx::uint32)));
}

TEST_F(Native, TakesStridedInputsAsTheyLieAndCopiesOthers) {
  const auto program = load(totals_candidate());
  const mx::array all = mx::astype(mx::random::randint(0, 9, {300, 300}), mx::float32);
  mx::eval(all);
  const mx::array inputs[] = {mx::slice(all, {0, 0}, {6, 200}),
                              mx::slice(all, {3, 8}, {9, 208}),
                              mx::slice(all, {0, 3}, {6, 203}),
                              mx::slice(mx::transpose(all), {0, 0}, {6, 200}),
                              mx::slice(all, {6, 0}, {0, 200}, {-1, 1}),
                              mx::broadcast_to(mx::slice(all, {0, 0}, {1, 200}), {6, 200})};
  for (const mx::array& x : inputs)
    EXPECT_TRUE(same(program->add_to_graph({x}, {{6}, {6}}, totals_call(6, 200, 1), here())[0],
                     mx::sum(x, 1)));
}

TEST_F(Native, UpdatesInPlaceWhereNobodyElseLooks) {
  const auto program = load(put_candidate());
  const auto put = [&](const mx::array& cache, const mx::array& row, int at) {
    return program->add_to_graph({cache, row}, {cache.shape()}, put_call(64, 32, at), here())[0];
  };
  mx::array cache = mx::zeros({64, 32});
  mx::eval(cache);
  mx::synchronize();  // what is in flight is still held
  const void* const memory = cache.buffer().ptr();
  for (int at = 0; at < 64; ++at) {
    cache = put(cache, mx::full({32}, static_cast<float>(at)), at);
    mx::eval(cache);
    mx::synchronize();
    ASSERT_EQ(cache.buffer().ptr(), memory) << at;
  }
  EXPECT_TRUE(same(cache, mx::broadcast_to(mx::reshape(mx::arange(64.0f), {64, 1}), {64, 32})));
}

TEST_F(Native, UpdatesACopyWhereTheInputIsStillSeen) {
  const auto program = load(put_candidate());
  const mx::array all = mx::random::normal({65, 33});
  mx::eval(all);
  const mx::array caches[] = {
      mx::reshape(mx::slice(mx::reshape(all, {65 * 33}), {1}, {2049}), {64, 32}),
      mx::slice(all, {0, 0}, {64, 32}), mx::slice(all, {1, 1}, {65, 33})};
  const mx::array row = mx::full({32}, 7.0f);
  for (const mx::array& cache : caches) {
    const mx::array before = mx::add(cache, mx::array(0.0f));
    mx::eval(before, cache);
    const mx::array after =
        program->add_to_graph({cache, row}, {{64, 32}}, put_call(64, 32, 5), here())[0];
    EXPECT_TRUE(same(mx::slice(after, {5, 0}, {6, 32}), mx::full({1, 32}, 7.0f)));
    EXPECT_TRUE(same(mx::slice(after, {6, 0}, {64, 32}), mx::slice(before, {6, 0}, {64, 32})));
    EXPECT_TRUE(same(cache, before));
  }
}

TEST_F(Native, UpdatesInPlaceWithinOneGraph) {
  const auto program = load(put_candidate());
  mx::array cache = mx::zeros({64, 32});
  for (int at = 0; at < 64; ++at)
    cache = program->add_to_graph({cache, mx::full({32}, static_cast<float>(at))}, {{64, 32}},
                                  put_call(64, 32, at), here())[0];
  EXPECT_TRUE(same(cache, mx::broadcast_to(mx::reshape(mx::arange(64.0f), {64, 1}), {64, 32})));
}

TEST_F(Native, LaunchesClustersInGraphsThatDiffer) {
  if (gpu().sm < 90) GTEST_SKIP() << "sm_" << gpu().sm << " has no clusters";
  const auto program = load(clusters_candidate());
  for (const int64_t cluster : {1, 2, 4, 2, 8, 1}) {
    const mx::array made = program->add_to_graph({mx::zeros({16}, mx::int32)}, {{16}},
                                                 clusters_call(16, cluster), here())[0];
    const mx::array rank = mx::remainder(mx::arange(16), mx::array(static_cast<int>(cluster)));
    EXPECT_TRUE(same(made, mx::add(rank, mx::array(static_cast<int>(100 * cluster))))) << cluster;
  }
}

TEST_F(Native, KeepsItsOrderInLongMixedChains) {
  const auto program = load(steps_candidate());
  std::vector<mx::array> ours, theirs;
  for (const int size : {7, 256, 4096, 9728, 100000}) {
    ours.push_back(mx::random::normal({size}));
    theirs.push_back(ours.back());
  }
  for (int round = 0; round < 120; ++round)
    for (size_t i = 0; i < ours.size(); ++i) {
      const int64_t stages = 1 + (round + static_cast<int>(i)) % 4;
      ours[i] = steps(*program, mx::multiply(ours[i], mx::array(0.5f)), stages);
      theirs[i] = mx::multiply(theirs[i], mx::array(0.5f));
      for (int64_t k = 0; k < stages; ++k) theirs[i] = mx::add(theirs[i], mx::array(1.0f));
    }
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(same(ours[i], theirs[i])) << i;
}

// What was dropped while the GPU still wrote it is used again, later, on the same stream.
TEST_F(Native, SurvivesOutputsThatNobodyKept) {
  const auto program = load(steps_candidate());
  const mx::array x = mx::zeros({1 << 20});
  for (int round = 0; round < 200; ++round) {
    mx::array dropped = steps(*program, x, 16);
    mx::async_eval(dropped);
  }
  EXPECT_TRUE(same(steps(*program, x, 3), mx::full({1 << 20}, 3.0f)));
}

// Outputs and scratch memory are MLX's own: counted by it, kept for later, given up.
TEST_F(Native, UsesTheMemoryOfMlx) {
  const auto program = load(totals_candidate());
  const mx::array x = mx::ones({500, 64});
  mx::eval(x);
  const auto totals = [&] {
    mx::array made = program->add_to_graph({x}, {{500}, {500}}, totals_call(500, 64, 2), here())[0];
    mx::eval(made);
    mx::synchronize();  // what is in flight is still held
    return made;
  };
  for (int round = 0; round < 3; ++round) totals();
  const size_t active = mx::get_active_memory(), cached = mx::get_cache_memory();
  for (int round = 0; round < 50; ++round) totals();
  EXPECT_EQ(mx::get_active_memory(), active);
  EXPECT_EQ(mx::get_cache_memory(), cached);
  const mx::array kept = totals();
  EXPECT_GT(mx::get_active_memory(), active);
  EXPECT_EQ(kept.data<float>()[499], 128.0f);  // moved to where the host reads it
  EXPECT_TRUE(same(totals(), mx::full({500}, 128.0f)));
}

TEST_F(Native, GivesItsOutputsUpToOperationsOfMlx) {
  const auto program = load(steps_candidate());
  const mx::array x = mx::zeros({4096});
  std::optional<mx::array> y = steps(*program, x, 2);
  mx::eval(*y);
  mx::synchronize();
  const void* const memory = y->buffer().ptr();
  mx::array z = mx::exp(*y);
  y.reset();
  mx::eval(z);
  EXPECT_EQ(z.buffer().ptr(), memory);
}

TEST_F(Native, RunsInsideCompile) {
  const auto program = load(steps_candidate());
  const auto layer = [&](const std::vector<mx::array>& in) {
    const mx::array a = steps(*program, in[0], 2), b = steps(*program, in[0], 2);
    return std::vector<mx::array>{mx::multiply(mx::exp(a), mx::exp(mx::negative(b)))};
  };
  const auto compiled = mx::compile(layer);
  for (int round = 0; round < 4; ++round) {
    const mx::array x = mx::random::uniform({512});
    EXPECT_TRUE(mx::allclose(compiled({x})[0], layer({x})[0]).item<bool>());
  }
}

TEST_F(Native, HasTheTransformationsOfItsForm) {
  const auto program = load(steps_candidate());
  const MlxForm form = [](const std::vector<mx::array>& in, std::span<const double>,
                          const mx::Stream& stream) {
    return std::vector<mx::array>{mx::add(in[0], mx::array(2.0f), stream)};
  };
  const auto f = [&](const mx::array& x) { return mx::square(steps(*program, x, 2, &form)); };
  const mx::array x = mx::random::normal({100});
  const mx::array gradient = mx::vjp(f, x, mx::ones({100})).second;
  EXPECT_TRUE(mx::allclose(gradient, mx::multiply(mx::array(2.0f), mx::add(x, mx::array(2.0f))))
                  .item<bool>());
  const mx::array tangent = mx::jvp(f, x, mx::ones({100})).second;
  EXPECT_TRUE(mx::allclose(tangent, gradient).item<bool>());
  const mx::array rows = mx::random::normal({4, 100});
  const auto mapped = mx::vmap([&](const std::vector<mx::array>& in) {
    return std::vector<mx::array>{steps(*program, in[0], 2, &form)};
  });
  EXPECT_TRUE(mx::allclose(mapped({rows})[0], mx::add(rows, mx::array(2.0f))).item<bool>());
  EXPECT_TRUE(has(refusal_of([&] {
                    mx::vjp([&](const mx::array& one) { return steps(*program, one, 2); }, x,
                            mx::ones({100}));
                  }),
                  "steps"));
}

TEST_F(Native, WorksOnSeveralStreamsAndThreads) {
  const auto program = load(steps_candidate());
  const mx::array x = mx::random::normal({4096});
  mx::eval(x);
  const mx::Stream other = mx::new_stream(mx::Device::gpu);
  const mx::array first = steps(*program, x, 3);
  const mx::array second =
      program->add_to_graph({first}, {{4096}}, steps_call(4096, 2), {other})[0];
  const mx::array third = steps(*program, mx::add(second, first), 1);
  mx::array expected = x;
  for (int i = 0; i < 3; ++i) expected = mx::add(expected, mx::array(1.0f));
  mx::array two = expected;
  for (int i = 0; i < 2; ++i) two = mx::add(two, mx::array(1.0f));
  EXPECT_TRUE(same(third, mx::add(mx::add(two, expected), mx::array(1.0f))));

  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      mx::array y = mx::zeros({4096});
      for (int round = 0; round < 60; ++round) {
        y = steps(*program, y, 2);
        if (round % 8 == 0) mx::eval(y);
      }
      right += same(y, mx::full({4096}, 120.0f));
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 4);
}

TEST_F(Native, GivesEmptyOutputsWithoutALaunch) {
  const auto program = load(steps_candidate());
  Call call = steps_call(1, 1);
  const mx::array y = program->add_to_graph({mx::zeros({0, 4})}, {{0, 4}}, call, here())[0];
  mx::eval(y);
  EXPECT_EQ(y.size(), 0u);
}

TEST_F(Native, RefusesWrongArraysAndSizes) {
  const auto program = load(steps_candidate());
  EXPECT_TRUE(has(refusal_of([&] {
                    program->add_to_graph({mx::zeros({4}, mx::int32)}, {{4}}, steps_call(4, 1),
                                          here());
                  }),
                  "'steps' was compiled for float32 as input 0"));
  EXPECT_TRUE(has(refusal_of([&] { program->add_to_graph({}, {{4}}, steps_call(4, 1), here()); }),
                  "takes 1 inputs"));
  Call call = steps_call(4, 1);
  call.scratch.assign(5, 16);
  EXPECT_TRUE(has(refusal_of([&] { program->add_to_graph({mx::zeros({4})}, {{4}}, call, here()); }),
                  "5 scratch arrays"));
}

// Without the module: the reason, and no crash.
TEST(NativeAbsent, KernelsInCudaSayWhatIsMissing) {
  KD_NEEDS_GPU();
  if (find_native()) GTEST_SKIP() << "the native module is here";
  const auto program = load(steps_candidate());
  const std::string message = refusal_of([&] {
    program->add_to_graph({mx::zeros({4})}, {{4}}, steps_call(4, 1),
                          {mx::default_stream(mx::Device::cpu)});
  });
  EXPECT_TRUE(has(message, "libmlx_kd_cuda_native")) << message;
}

}  // namespace
}  // namespace mlx_kd::devices::cuda
