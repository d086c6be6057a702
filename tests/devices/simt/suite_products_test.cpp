#include <algorithm>
#include <cmath>

#include "tests/devices/simt/suite.h"

namespace mlx_kd::devices::simt {
namespace {

// a (rows, inner) times b (inner, columns).
Values product(const Values& a, const Values& b, size_t inner, size_t columns) {
  Values c(a.size() / inner * columns, 0);
  for (size_t i = 0; i < a.size() / inner; ++i)
    for (size_t k = 0; k < inner; ++k)
      for (size_t j = 0; j < columns; ++j)
        c[i * columns + j] += a[i * inner + k] * b[k * columns + j];
  return c;
}

Expected square_product(size_t n) {
  return [n](const Given& g) { return product(g("a"), g("b"), n, n); };
}

Values matrix_steps(const Given& g) {
  const Values a = g("a");
  Values t(64), y(64);
  for (size_t i = 0; i < 64; ++i) t[i % 8 * 8 + i / 8] = a[i];
  const Values p = product(a, t, 8, 8);
  for (size_t i = 0; i < 64; ++i) y[i % 8 * 8 + i / 8] = p[i] + 2 * a[i];
  return y;
}

Values attention(const Given& g, size_t rows, size_t keys, size_t dims) {
  const Values q = g("q"), k = g("k"), v = g("v");
  Values y(rows * dims, 0);
  for (size_t row = 0; row < rows; ++row) {
    Values weights(keys, 0);
    double all = 0;
    for (size_t j = 0; j < keys; ++j) {
      for (size_t d = 0; d < dims; ++d) weights[j] += q[row * dims + d] * k[j * dims + d];
      all += weights[j] = std::exp(weights[j] / std::sqrt(static_cast<double>(dims)));
    }
    for (size_t j = 0; j < keys; ++j)
      for (size_t d = 0; d < dims; ++d) y[row * dims + d] += weights[j] / all * v[j * dims + d];
  }
  return y;
}

Values matvec_q4(const Given& g) {
  const Values w = g("w"), scales = g("scales"), biases = g("biases"), x = g("x");
  Values y(8, 0);
  for (size_t row = 0; row < 8; ++row)
    for (size_t i = 0; i < 256; ++i) {
      const auto word = static_cast<uint32_t>(w[row * 32 + i / 8]);
      const double q = word >> (4 * (i % 8)) & 15;
      y[row] += (q * scales[row * 8 + i / 32] + biases[row * 8 + i / 32]) * x[i];
    }
  return y;
}

Values matvec_q8(const Given& g) {
  const Values w = g("w"), scales = g("scales"), x = g("x");
  Values y(10, 0);
  for (size_t i = 0; i < w.size(); ++i) y[i / 256] += w[i] * scales[i / 64] * x[i % 256];
  return y;
}

Values matvec_q2(const Given& g) {
  const Values w = g("w"), scales = g("scales"), biases = g("biases"), x = g("x");
  Values y(5, 0);
  for (size_t i = 0; i < 5 * 1024; ++i) {
    const double q = static_cast<uint32_t>(w[i / 16]) >> (2 * (i % 16)) & 3;
    y[i / 1024] += (q * scales[i / 64] + biases[i / 64]) * x[i % 1024];
  }
  return y;
}

Values convolved(const Given& g) {
  const Values x = g("x"), w = g("w");
  Values y(x.size(), 0);
  for (int r = 0; r < 19; ++r)
    for (int c = 0; c < 30; ++c)
      for (int i = 0; i < 25; ++i) {
        const int dr = r + i / 5 - 2, dc = c + i % 5 - 2;
        if (dr >= 0 && dr < 19 && dc >= 0 && dc < 30) y[r * 30 + c] += w[i] * x[dr * 30 + dc];
      }
  return y;
}

void add_gemms(std::vector<SuiteCase>& list) {
  CaseList old(list, "matrices.metal");
  for (const std::string type : {"f32", "f16"})
    old.add("simd_gemm_" + type, {3 * 32, 3, 1}, {32, 1, 1},
            "a=rand:" + type + ":[24,24] b=rand:" + type + ":[24,24] n=24:u32", "c=f32:[24,24]",
            square_product(24), 1e-4);
  old.add("tiled_gemm", {48, 48, 1}, {16, 16, 1}, "a=rand:f32:[48,48] b=rand:f32:[48,48] n=48:u32",
          "c=f32:[48,48]", square_product(48), 1e-4);
  old.add("matvec_q4", {8 * 32, 1, 1}, {32, 1, 1},
          "w=bits:u32:[8,32] scales=uniform:f16:[8,8] biases=rand:f16:[8,8] x=rand:f32:[256] "
          "n=256:u32",
          "y=f32:[8]", matvec_q4, 1e-4);
  CaseList cases(list, "products.metal");
  const std::string n = ":[64,64] n=64:u32";
  cases.add("gemm_blocks_f32", {2 * 128, 2, 1}, {128, 1, 1}, "a=rand:f32:[64,64] b=rand:f32" + n,
            "c=f32:[64,64]", square_product(64), 1e-4);
  cases.add("gemm_blocks_f16", {2 * 128, 2, 1}, {128, 1, 1}, "a=rand:f16:[64,64] b=rand:f16" + n,
            "c=f16:[64,64]", square_product(64), 1e-3);
  cases.add("gemm_blocks_bf16", {2 * 128, 2, 1}, {128, 1, 1}, "a=rand:bf16:[64,64] b=rand:bf16" + n,
            "c=f32:[64,64]", square_product(64), 1e-4);
  cases.add("gemm_vectors", {16, 16, 1}, {8, 8, 1}, "a=rand:f32:[64,64] b=rand:f32" + n,
            "c=f32:[64,64]", square_product(64), 1e-4);
}

}  // namespace

void add_products(std::vector<SuiteCase>& list) {
  add_gemms(list);
  CaseList cases(list, "products.metal");
  cases.add("matrix_steps", {32, 1, 1}, {32, 1, 1}, "a=rand:f32:[8,8]", "y=f32:[8,8]", matrix_steps,
            1e-5);
  cases.add(
      "attention", {5 * 64, 1, 1}, {64, 1, 1},
      "q=rand:f32:[5,48] k=rand:f32:[100,48] v=rand:f32:[100,48] sizes=100,48:u32:[2]",
      "y=f32:[5,48]", [](const Given& g) { return attention(g, 5, 100, 48); }, 1e-5);
  cases.add(
      "attention_online", {5 * 32, 1, 1}, {32, 1, 1},
      "q=rand:f16:[5,64] k=rand:f16:[70,64] v=rand:f16:[70,64] keys=70:u32", "y=f32:[5,64]",
      [](const Given& g) { return attention(g, 5, 70, 64); }, 1e-4);
  cases.add("matvec_q8", {10, 1, 1}, {32, 1, 1},
            "w=bits:i8:[10,256] scales=uniform:f32:[10,4] x=rand:f32:[256] n=256:u32", "y=f32:[10]",
            matvec_q8, 1e-4);
  cases.add("matvec_q2", {5 * 64, 1, 1}, {64, 1, 1},
            "w=bits:u32:[5,64] scales=uniform:f16:[5,16] biases=rand:f16:[5,16] x=rand:f32:[1024] "
            "n=1024:u32",
            "y=f32:[5]", matvec_q2, 1e-4);
  cases.add("convolve", {32, 24, 1}, {16, 8, 1},
            "x=rand:f32:[19,30] w=rand:f32:[25] size=30,19:u32:[2]", "y=f32:[19,30]", convolved,
            1e-5);
}

}  // namespace mlx_kd::devices::simt
