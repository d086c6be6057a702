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
  mx::array attention_norm, mlp_norm;
};

struct Model {
  mx::Dtype dtype;
  mx::array embedding;  // [vocabulary, width]
  std::vector<Layer> layers;
  mx::array norm;
};

struct Cache {
  explicit Cache(mx::Dtype dtype)
      : keys(mx::zeros({1, kHeads, 0, kHeadDim}, dtype)), values(keys) {}
  mx::array keys, values;
};

// The element type that most pins in effect are for.
mx::Dtype type_of_pins() {
  int float16 = 0, bfloat16 = 0, float32 = 0;
  for (const auto& pin : mlx_kd::stats().pins)
    ++(pin.dtype == "float16" ? float16 : pin.dtype == "bfloat16" ? bfloat16 : float32);
  if (float32 >= std::max(float16, bfloat16)) return mx::float32;
  return float16 >= bfloat16 ? mx::float16 : mx::bfloat16;
}

mx::array weight(int in, int out, mx::Dtype dtype) {
  const mx::array scale(1.0f / std::sqrt(static_cast<float>(in)));
  return mx::astype(mx::random::normal({in, out}) * scale, dtype);
}

Model make_model(mx::Dtype dtype) {
  mx::random::seed(0);
  const mx::array ones = mx::ones({kWidth}, dtype);
  Model model{dtype, weight(kVocabulary, kWidth, dtype), {}, ones};
  for (int i = 0; i < kLayers; ++i)
    model.layers.push_back({weight(kWidth, 3 * kWidth, dtype), weight(kWidth, kWidth, dtype),
                            weight(kWidth, 2 * kHidden, dtype), weight(kHidden, kWidth, dtype),
                            ones, ones});
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

// Logits [kSteps, vocabulary] of a fixed row of tokens, one step per evaluation.
mx::array decode(const Model& model) {
  std::vector<Cache> caches(kLayers, Cache(model.dtype));
  std::vector<mx::array> logits;
  for (int step = 0; step < kSteps; ++step) {
    mx::array x =
        mx::reshape(mx::take(model.embedding, step * 37 % kVocabulary, 0), {1, 1, kWidth});
    for (int i = 0; i < kLayers; ++i) x = run_layer(model.layers[i], x, caches[i]);
    logits.push_back(
        mx::matmul(mlx_kd::rmsnorm(x, model.norm, kEps), mx::transpose(model.embedding)));
    mx::eval(logits.back());
  }
  return mx::astype(mx::reshape(mx::concatenate(logits, 1), {kSteps, kVocabulary}), mx::float32);
}

// As a share of the largest logit.
double bound(mx::Dtype dtype) {
  const double u32 = std::ldexp(1.0, -24);
  const double u = dtype == mx::float32   ? u32
                   : dtype == mx::float16 ? std::ldexp(1.0, -11)
                                          : std::ldexp(1.0, -8);
  const double scale = (3 * std::sqrt(static_cast<double>(kWidth)) + 8) * u32;
  return 2 * (kLayers * ((2 * u + scale) + (4 * u + scale) + (u + 12 * u32)) + 2 * u + scale);
}

// us of one layer's operators, of many calls in one evaluation.
double time_operators(bool pinned, mx::Dtype dtype) {
  constexpr int kCalls = 50;
  mlx_kd::configure({.enabled = pinned});
  const mx::array x = mx::ones({1, 1, kWidth}, dtype), w = mx::ones({kWidth}, dtype);
  const mx::array gate = mx::ones({1, 1, kHidden}, dtype);
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

void show_times(mx::Dtype dtype) {
  std::vector<double> plain, pinned;
  for (int round = 0; round < 15; ++round) {
    plain.push_back(time_operators(false, dtype));
    pinned.push_back(time_operators(true, dtype));
  }
  std::printf("a layer's norms and gate: %.1f us with MLX, %.1f us with pins\n", median(plain),
              median(pinned));
}

int run() {
  const Model model = make_model(type_of_pins());
  const bool pins_wanted = mlx_kd::settings().enabled;
  mlx_kd::disable();
  const mx::array expected = decode(model);
  mlx_kd::configure({.enabled = pins_wanted, .wait_for_compile = true});
  mlx_kd::reset_stats();
  const mx::array logits = decode(model);
  const double difference = mx::max(mx::abs(logits - expected)).item<float>();
  const double allowed = bound(model.dtype) * mx::max(mx::abs(expected)).item<float>();
  const mlx_kd::Stats stats = mlx_kd::stats();
  std::printf("logits differ by at most %.3g (bound %.3g)\n", difference, allowed);
  std::printf("%llu calls hit a pin, %llu missed, %llu fell back\n",
              static_cast<unsigned long long>(stats.hits),
              static_cast<unsigned long long>(stats.misses),
              static_cast<unsigned long long>(stats.fallbacks));
  for (const auto& miss : stats.missed)
    std::printf("  missed %s %s %s: %s\n", miss.op.c_str(), miss.dtype.c_str(), miss.shape.c_str(),
                miss.differs.empty() ? "the pack has no pin of it" : miss.differs.c_str());
  if (pins_wanted) show_times(model.dtype);
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
