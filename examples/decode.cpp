// A small Llama-like decoder with mlx_kd's operators: the same logits with pins as without, in less
// time. examples/decode.py is the same in Python and explains the bound.
//
//   cmake -S examples -B build/examples -Dmlx_kd_DIR=$(python -m mlx_kd --cmake-dir)
//   cmake --build build/examples
//   MLX_KD_USE_DISCOVERED_KERNELS=1 MLX_KD_DISCOVERED_KERNELS_PATH=pins.json build/examples/decode
//
// Exit status 1 if the logits differ by more than the bound.
#include <mlx/mlx.h>
#include <mlx_kd/mlx_kd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace mx = mlx::core;

constexpr int kWidth = 1024, kHidden = 2816, kLayers = 4, kHeads = 8, kVocabulary = 2048;
constexpr int kSteps = 16, kHeadDim = kWidth / kHeads;
constexpr double kEps = 1e-6;

struct Layer {
  mx::array qkv, out, gate_up, down;  // [in, out]
  mx::array attention_norm = mx::ones({kWidth}), mlp_norm = mx::ones({kWidth});
};

struct Model {
  mx::array embedding;  // [vocabulary, width]
  std::vector<Layer> layers;
  mx::array norm = mx::ones({kWidth});
};

struct Cache {
  mx::array keys = mx::zeros({1, kHeads, 0, kHeadDim});
  mx::array values = mx::zeros({1, kHeads, 0, kHeadDim});
};

mx::array weight(int in, int out) {
  return mx::random::normal({in, out}) * mx::array(1.0f / std::sqrt(static_cast<float>(in)));
}

Model make_model() {
  mx::random::seed(0);
  Model model{weight(kVocabulary, kWidth), {}};
  for (int i = 0; i < kLayers; ++i)
    model.layers.push_back({weight(kWidth, 3 * kWidth), weight(kWidth, kWidth),
                            weight(kWidth, 2 * kHidden), weight(kHidden, kWidth)});
  return model;
}

mx::array attend(const Layer& layer, const mx::array& x, Cache& cache) {
  const mx::array qkv = mx::transpose(
      mx::reshape(mx::matmul(x, layer.qkv), {1, 1, 3, kHeads, kHeadDim}), {2, 0, 3, 1, 4});
  const int offset = cache.keys.shape(2);
  auto rotated = [&](int i) {
    return mx::fast::rope(mx::take(qkv, i, 0), kHeadDim, false, 10000.0f, 1.0f, offset);
  };
  cache.keys = mx::concatenate({cache.keys, rotated(1)}, 2);
  cache.values = mx::concatenate({cache.values, mx::take(qkv, 2, 0)}, 2);
  const mx::array y = mx::fast::scaled_dot_product_attention(
      rotated(0), cache.keys, cache.values, 1.0f / std::sqrt(static_cast<float>(kHeadDim)));
  return mx::matmul(mx::reshape(mx::transpose(y, {0, 2, 1, 3}), {1, 1, kWidth}), layer.out);
}

mx::array run_layer(const Layer& layer, const mx::array& x, Cache& cache) {
  const mx::array attended = attend(layer, mlx_kd::rmsnorm(x, layer.attention_norm, kEps), cache);
  const auto [y, sum] = mlx_kd::rmsnorm_residual(x, attended, layer.mlp_norm, kEps);
  const auto gate_up = mx::split(mx::matmul(y, layer.gate_up), 2, -1);
  return sum + mx::matmul(mlx_kd::swiglu(gate_up[0], gate_up[1]), layer.down);
}

// Logits [kSteps, vocabulary] of a fixed row of tokens, one step an evaluation.
mx::array decode(const Model& model) {
  std::vector<Cache> caches(kLayers);
  std::vector<mx::array> logits;
  for (int step = 0; step < kSteps; ++step) {
    mx::array x =
        mx::reshape(mx::take(model.embedding, step * 37 % kVocabulary, 0), {1, 1, kWidth});
    for (int i = 0; i < kLayers; ++i) x = run_layer(model.layers[i], x, caches[i]);
    logits.push_back(
        mx::matmul(mlx_kd::rmsnorm(x, model.norm, kEps), mx::transpose(model.embedding)));
    mx::eval(logits.back());
  }
  return mx::reshape(mx::concatenate(logits, 1), {kSteps, kVocabulary});
}

// As a share of the largest logit, in float32.
double bound() {
  const double u = std::ldexp(1.0, -24), scale = 3 * std::sqrt(static_cast<double>(kWidth)) + 8;
  return 2 * u * (kLayers * ((2 + scale) + (4 + scale) + 13) + 2 + scale);
}

// us of one layer's operators, of many calls in one evaluation.
double time_operators(bool pinned) {
  constexpr int kCalls = 50;
  mlx_kd::configure({.enabled = pinned});
  const mx::array x = mx::ones({1, 1, kWidth}), w = mx::ones({kWidth});
  const mx::array gate = mx::ones({1, 1, kHidden});
  const auto start = std::chrono::steady_clock::now();
  std::vector<mx::array> results;
  for (int i = 0; i < kCalls; ++i) {
    const auto [y, sum] = mlx_kd::rmsnorm_residual(x, x, w, kEps);
    results.insert(results.end(),
                   {y, sum, mlx_kd::rmsnorm(x, w, kEps), mlx_kd::swiglu(gate, gate)});
  }
  mx::eval(results);
  const std::chrono::duration<double, std::micro> taken = std::chrono::steady_clock::now() - start;
  return taken.count() / kCalls;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void show_times() {
  std::vector<double> plain, pinned;
  for (int round = 0; round < 15; ++round) {
    plain.push_back(time_operators(false));
    pinned.push_back(time_operators(true));
  }
  std::printf("a layer's norms and gate: %.1f us with MLX, %.1f us with pins\n", median(plain),
              median(pinned));
}

int run() {
  const Model model = make_model();
  const bool pins_wanted = mlx_kd::settings().enabled;
  mlx_kd::disable();
  const mx::array expected = decode(model);
  mlx_kd::configure({.enabled = pins_wanted, .wait_for_compile = true});
  mlx_kd::reset_stats();
  const mx::array logits = decode(model);
  const double difference = mx::max(mx::abs(logits - expected)).item<float>();
  const double allowed = bound() * mx::max(mx::abs(expected)).item<float>();
  const mlx_kd::Stats stats = mlx_kd::stats();
  std::printf("logits differ by at most %.3g (bound %.3g)\n", difference, allowed);
  std::printf("%llu calls hit a pin, %llu missed, %llu fell back\n",
              static_cast<unsigned long long>(stats.hits),
              static_cast<unsigned long long>(stats.misses),
              static_cast<unsigned long long>(stats.fallbacks));
  for (const auto& miss : stats.missed)
    std::printf("  missed %s %s %s: %s\n", miss.op.c_str(), miss.dtype.c_str(), miss.shape.c_str(),
                miss.differs.empty() ? "the pack has no pin of it" : miss.differs.c_str());
  if (pins_wanted) show_times();
  return difference <= allowed ? 0 : 1;
}

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
