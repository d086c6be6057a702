// Caches, draws and compiled functions of MLX from eight threads at once, each with a stream of its
// own: what one thread computes alone. The thread sanitizer looks on in the preset tsan.
#include <gtest/gtest.h>
#include <mlx/compile.h>
#include <mlx/mlx.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "mlx_kd/runtime/cache/cache.h"
#include "mlx_kd/runtime/call/sample.h"
#include "mlx_kd/runtime/state/settings.h"

namespace mlx_kd::runtime::cache {
namespace {

constexpr int kThreads = 8, kTokensOfEach = 12;
constexpr Kind kKinds[] = {Kind::contiguous,         Kind::rotating, Kind::quantized,
                           Kind::quantized_rotating, Kind::paged,    Kind::quantized_paged};

using Numbers = std::vector<float>;

mx::array heads_of(int number, int step, int heads, int tokens, const mx::Stream& s) {
  const auto seed = static_cast<uint64_t>(1000 * number + step);
  return mx::random::normal({1, heads, tokens, 64}, mx::float32, mx::random::key(seed), s);
}

// A prompt and tokens with a cache of the thread's own; at each step a token is drawn, and a
// compiled function has the last word.
Numbers decode(int number) {
  const mx::Stream s = mx::new_stream(mx::Device::cpu);
  const Kind kind = kKinds[static_cast<size_t>(number) % std::size(kKinds)];
  const auto cache =
      std::move(make(1, {.kind = kind, .group_size = 32, .max_size = 16, .block_size = 4}).front());
  const auto last = mx::compile([s](const std::vector<mx::array>& x) {
    return std::vector<mx::array>{mx::tanh(mx::multiply(x[0], mx::array(3.0f), s), s)};
  });
  Numbers results;
  for (int step = 0; step < kTokensOfEach; ++step) {
    const int tokens = step == 0 ? 4 : 1;
    const mx::array keys = heads_of(number, 3 * step, 2, tokens, s);
    const mx::array values = heads_of(number, 3 * step + 1, 2, tokens, s);
    const mx::array q = heads_of(number, 3 * step + 2, 4, tokens, s);
    cache->append(keys, values, s);
    const mx::array y = last({cache->attention(q, 0.125, s)})[0];
    const mx::array row = mx::slice(mx::reshape(y, {-1, 64}, s), {0, 0}, {1, 64}, s);
    const Sampled drawn = sample(row, {.temperature = 0.7, .top_p = 0.9},
                                 {.key = mx::random::key(static_cast<uint64_t>(step))}, s);
    mx::array sum = mx::sum(y, s), token = mx::astype(drawn.token, mx::float32, s);
    mx::eval({sum, token});
    results.push_back(sum.item<float>());
    results.push_back(token.data<float>()[0]);
  }
  mx::synchronize(s);
  return results;
}

TEST(ThreadsWithCaches, EachComputesWhatItComputesAlone) {
  for (const bool kernels : {false, true}) {
    Settings settings;
    if (kernels) settings.default_kernels = {"kv_append", "kv_append_quantized"};
    settings.wait_for_compile = true;
    configure(settings);
    std::vector<Numbers> alone, together(kThreads);
    for (int number = 0; number < kThreads; ++number) alone.push_back(decode(number));
    std::atomic<int> waiting = kThreads;
    std::vector<std::thread> threads;
    for (int number = 0; number < kThreads; ++number)
      threads.emplace_back([&, number] {
        for (--waiting; waiting > 0;) std::this_thread::yield();
        together[static_cast<size_t>(number)] = decode(number);
      });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(together, alone);
    reset_settings();
  }
}

}  // namespace
}  // namespace mlx_kd::runtime::cache
