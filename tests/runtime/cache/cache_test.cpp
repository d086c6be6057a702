// Caches in C++: attention over each kind is attention over the tokens that it keeps; tokens are
// written in place; copies of pages; what is refused.
#include "mlx_kd/runtime/cache/cache.h"

#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "mlx_kd/runtime/state/settings.h"

namespace mlx_kd::runtime::cache {
namespace {

namespace mx = mlx::core;

constexpr int kHeads = 2, kQueryHeads = 4, kWidth = 64;
constexpr double kScale = 0.125;

mx::array normal(int heads, int tokens, int seed) {
  return mx::random::normal({1, heads, tokens, kWidth}, mx::float32, mx::random::key(seed));
}

// What a cache has to hold, as a list of tokens.
struct Kept {
  std::vector<mx::array> keys, values;  // [1, H, 1, D] each

  void append(const mx::array& k, const mx::array& v) {
    for (int t = 0; t < k.shape(2); ++t) {
      keys.push_back(mx::take(k, mx::array({t}), 2));
      values.push_back(mx::take(v, mx::array({t}), 2));
    }
  }

  // What a ring keeps when `queries` come: the first `keep`, and so many that the first query sees
  // `window`. Each of several sees the last `window` of what there is up to itself.
  std::vector<int> left(int queries, int window, int keep) const {
    const int all = static_cast<int>(keys.size()), before = all - queries;
    std::vector<int> rows(static_cast<size_t>(all));
    std::iota(rows.begin(), rows.end(), 0);
    if (before >= window)
      rows.erase(rows.begin() + keep, rows.begin() + before - window + 1 + keep);
    return rows;
  }

  mx::array attention(const mx::array& q, int window, int keep) const {
    const int queries = q.shape(2);
    const std::vector<int> rows = left(queries, window, keep);
    std::vector<mx::array> results;
    for (int t = 0; t < queries; ++t) {
      const auto end = rows.end() - queries + t + 1;
      std::vector<mx::array> k, v;
      for (auto row = end - std::min<std::ptrdiff_t>(window, end - rows.begin()); row < end;
           ++row) {
        k.push_back(keys[static_cast<size_t>(*row)]);
        v.push_back(values[static_cast<size_t>(*row)]);
      }
      results.push_back(mx::fast::scaled_dot_product_attention(
          mx::take(q, mx::array({t}), 2), mx::concatenate(k, 2), mx::concatenate(v, 2),
          static_cast<float>(kScale)));
    }
    return mx::concatenate(results, 2);
  }
};

double largest(const mx::array& x) {
  return mx::max(mx::abs(x)).item<float>();
}

struct Case {
  const char* name;
  Options options;
  double error;
};

class OfEachKind : public testing::TestWithParam<Case> {};

TEST_P(OfEachKind, AttentionIsThatOverTheTokensThatItKeeps) {
  const Options options = GetParam().options;
  const auto cache = std::move(make(1, options).front());
  const bool rotates = options.kind == Kind::rotating || options.kind == Kind::quantized_rotating;
  Kept kept;
  int seed = 0;
  // Prompts and tokens, past the end of a ring, of a page, and of what a cache grows by.
  for (const int count : {5, 1, 1, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 260, 1, 1}) {
    const mx::array k = normal(kHeads, count, ++seed), v = normal(kHeads, count, ++seed);
    const mx::array q = normal(kQueryHeads, count, ++seed);
    cache->append(k, v);
    kept.append(k, v);
    const int window = rotates ? options.max_size : 1 << 20;
    const mx::array got = cache->attention(q, kScale);
    const mx::array wanted = kept.attention(q, window, options.keep);
    EXPECT_LT(largest(mx::subtract(got, wanted)), GetParam().error) << count << " at " << seed;
  }
  EXPECT_EQ(cache->offset(), static_cast<int>(kept.keys.size()));
}

TEST_P(OfEachKind, ATokenIsWrittenInPlaceWithOurKernelsAndWithout) {
  for (const bool kernels : {false, true}) {
    Settings settings;
    if (kernels) settings.default_kernels = {"kv_append", "kv_append_quantized"};
    settings.wait_for_compile = true;  // MLX's form of the append copies
    configure(settings);
    const auto cache = std::move(make(1, GetParam().options).front());
    const mx::array k = normal(kHeads, 1, 1);
    for (int i = 0; i < 3; ++i) cache->append(k, k);
    const auto places = [&] {
      const std::vector<mx::array> held = cache->state();
      mx::eval(held);
      std::vector<const void*> data;
      for (const mx::array& one : held) data.push_back(one.data<void>());
      return data;
    };
    const std::vector<const void*> before = places();
    for (int i = 0; i < 3; ++i) {
      cache->append(k, k);
      EXPECT_EQ(places(), before);
    }
    reset_settings();
  }
}

TEST_P(OfEachKind, ACopyGoesItsOwnWay) {
  const auto cache = std::move(make(1, GetParam().options).front());
  const mx::array k = normal(kHeads, 3, 1), v = normal(kHeads, 3, 2);
  const mx::array q = normal(kQueryHeads, 1, 3);
  cache->append(k, v);
  const mx::array before = cache->attention(q, kScale);
  mx::eval(before);
  const auto other = cache->copy();
  other->append(normal(kHeads, 1, 4), normal(kHeads, 1, 5));
  mx::eval(other->state());
  EXPECT_EQ(largest(mx::subtract(cache->attention(q, kScale), before)), 0);
  EXPECT_GT(largest(mx::subtract(other->attention(q, kScale), before)), 1e-3);
  EXPECT_EQ(other->trim(1), 1);
  EXPECT_LT(largest(mx::subtract(other->attention(q, kScale), before)), 1e-6);
  EXPECT_EQ(other->trim(100), 3);
  EXPECT_EQ(other->offset(), 0);
}

std::vector<Case> cases() {
  return {{"contiguous", {.kind = Kind::contiguous}, 1e-5},
          {"quantized", {.kind = Kind::quantized, .bits = 8, .group_size = 32}, 0.02},
          {"rotating", {.kind = Kind::rotating, .max_size = 12}, 1e-5},
          {"rotating_with_first_tokens", {.kind = Kind::rotating, .max_size = 12, .keep = 3}, 1e-5},
          {"quantized_rotating",
           {.kind = Kind::quantized_rotating, .bits = 8, .group_size = 32, .max_size = 12},
           0.02},
          {"paged", {.kind = Kind::paged, .max_size = 400, .block_size = 8}, 1e-5},
          {"quantized_paged",
           {.kind = Kind::quantized_paged, .group_size = 32, .max_size = 400, .block_size = 8},
           0.02}};
}
INSTANTIATE_TEST_SUITE_P(Caches, OfEachKind, testing::ValuesIn(cases()),
                         [](const auto& one) { return std::string(one.param.name); });

TEST(Caches, EightBitsTakeLittleMoreThanHalfOfTheMemory) {
  const auto plain = std::move(make(1).front());
  const auto coded = std::move(make(1, {.kind = Kind::quantized}).front());
  const mx::array x = mx::astype(normal(kHeads, 1, 1), mx::bfloat16);
  plain->append(x, x);
  coded->append(x, x);
  EXPECT_LE(static_cast<double>(coded->nbytes()), 0.55 * static_cast<double>(plain->nbytes()));
}

TEST(Caches, PagesAreSharedByCopiesAndAFullPoolLeavesTheCacheAsItWas) {
  for (const Kind kind : {Kind::paged, Kind::quantized_paged}) {
    const Options options = {.kind = kind, .group_size = 32, .max_size = 16, .block_size = 4};
    const auto cache = std::move(make(1, options).front());
    const mx::array x = normal(kHeads, 10, 1);
    cache->append(x, x);  // three of four pages
    const auto other = cache->copy();
    const mx::array token = normal(kHeads, 1, 2), q = normal(kQueryHeads, 1, 3);
    other->append(token, token);  // its own copy of the last page
    const mx::array before = other->attention(q, kScale);
    mx::eval(before);
    const mx::array more = normal(kHeads, 6, 4);
    EXPECT_THROW(other->append(more, more), PoolFull);
    EXPECT_EQ(other->offset(), 11);
    EXPECT_EQ(largest(mx::subtract(other->attention(q, kScale), before)), 0);
    EXPECT_EQ(other->trim(3), 3);  // into a page that both have
    cache->append(normal(kHeads, 2, 5), normal(kHeads, 2, 6));
  }
}

// "" where it does not throw.
template <class Function>
std::string refusal(Function function) {
  try {
    function();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(Caches, WhatDoesNotFitIsRefused) {
  const auto named = [](const Options& options) { return refusal([&] { make(1, options); }); };
  EXPECT_NE(named({.bits = 3}).find("bits is 3"), std::string::npos);
  EXPECT_NE(named({.group_size = 16}).find("group_size is 16"), std::string::npos);
  EXPECT_NE(named({.max_size = -1}).find("max_size is -1"), std::string::npos);
  EXPECT_NE(named({.kind = Kind::rotating}).find("needs max_size"), std::string::npos);
  EXPECT_NE(named({.kind = Kind::rotating, .max_size = 4, .keep = 4}).find("keep is 4"),
            std::string::npos);
  EXPECT_NE(named({.block_size = 0}).find("block_size is 0"), std::string::npos);
  EXPECT_NE(refusal([] { make(-1); }).find("layers is -1"), std::string::npos);
  for (const Case& one : cases()) {
    const auto cache = std::move(make(1, one.options).front());
    const mx::array x = normal(kHeads, 2, 1), other = normal(kHeads + 1, 2, 1);
    const mx::array q = normal(kQueryHeads, 3, 1);
    const auto says = [&](auto function, const char* what) {
      EXPECT_NE(refusal(function).find(what), std::string::npos) << one.name << ": " << what;
    };
    says([&] { cache->attention(q, kScale); }, "and the cache 0 tokens");
    says([&] { cache->append(x, other); }, "equal B, H and T");
    says([&] { cache->append(x, mx::astype(x, mx::float16)); }, "different types");
    cache->append(x, x);
    says([&] { cache->append(other, other); }, "heads and widths");
    says([&] { cache->append(mx::astype(x, mx::float16), mx::astype(x, mx::float16)); },
         "their type is another");
    says([&] { cache->attention(q, kScale); }, "and the cache 2 tokens");
    says([&] { cache->trim(-1); }, "trim of -1");
    EXPECT_EQ(cache->offset(), 2);
  }
}

}  // namespace
}  // namespace mlx_kd::runtime::cache
