#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "tests/devices/simt/suite.h"

namespace mlx_kd::devices::simt {
namespace {

Values votes(const Given& g) {
  const Values x = g("x");
  Values y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    int odd = 0;
    for (size_t k = i / 32 * 32; k < i / 32 * 32 + 32; ++k) odd += static_cast<uint32_t>(x[k]) & 1;
    double quad = 0;
    for (size_t k = i / 4 * 4; k < i / 4 * 4 + 4; ++k) quad += x[k];
    y[i] = odd + (odd == 32 ? 1000 : 0) + (odd ? 100 : 0) + quad * 10000;
  }
  return y;
}

Values shuffles(const Given& g) {
  const Values x = g("x");
  Values y(x.size());
  for (size_t first = 0; first < x.size(); first += 32) {
    int before = 0, all = 0;
    double least = INFINITY;
    for (size_t l = 0; l < 32; ++l)
      all ^= static_cast<int>(x[first + l]), least = std::min(least, x[first + l]);
    for (size_t l = 0; l < 32; ++l) {
      const auto at = [&](size_t lane) { return x[first + lane]; };
      y[first + l] = at(l ^ 1) + 2 * at(3) + 3 * at((l + 5) & 31) + (l < 4 ? 7 : at(l - 4)) +
                     at(l ^ 2) + at(0) + before + all + least;
      before += static_cast<int>(at(l));
    }
  }
  return y;
}

double all_bits(double value) {
  const auto v = static_cast<uint32_t>(value);
  uint32_t reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (v >> i & 1u) << (31 - i);
  const auto high = static_cast<uint32_t>(uint64_t{v} * 0x10001u >> 32);
  return static_cast<uint32_t>(std::popcount(v)) + static_cast<uint32_t>(std::countl_zero(v)) * 64 +
         static_cast<uint32_t>(std::countr_zero(v)) * 4096 + (reversed ^ std::rotl(v, 5)) + high +
         (v > 77 ? v - 77 : 77 - v) + ((v & ~(15u << 3)) | 5u << 3);
}

Values diverged(const Given&) {
  Values y(64);
  for (size_t i = 0; i < 64; ++i) y[i] = i % 32 < 16 ? (i < 32 ? 120 : 632) : (i < 32 ? 31 : 63);
  return y;
}

Values reduced(const Given& g) {
  const Values x = g("x");
  Values y;
  for (auto i = x.begin(); i != x.end(); i += 32) {
    y.push_back(std::accumulate(i, i + 32, 0.0));
    y.push_back(*std::max_element(i, i + 32));
    y.push_back(*std::min_element(i, i + 32));
    y.push_back(32);
  }
  return y;
}

Values joined_bits(const Given& g) {
  const Values x = g("x");
  Values y;
  for (size_t first = 0; first < x.size(); first += 32) {
    int all = -1, any = 0, odd = 0;
    for (size_t l = 0; l < 32; ++l) {
      const int v = static_cast<int>(x[first + l]);
      all &= v | 64, any |= v & 15, odd ^= v & 63;
    }
    y.insert(y.end(), 32, all + 256.0 * any + 65536.0 * odd);
  }
  return y;
}

Values scanned(const Given& g) {
  const Values x = g("x");
  Values y;
  for (size_t first = 0; first < x.size(); first += 32) {
    double sum = 0, product = 1;
    for (size_t l = 0; l < 32; ++l) {
      const double before = sum, few = product;
      sum += x[first + l], product *= l % 8 == 0 ? 2 : 1;
      y.push_back(sum + 2 * before + product + 3 * few);
    }
  }
  return y;
}

Values moved(const Given& g) {
  const Values x = g("x");
  Values y;
  for (size_t i = 0; i < x.size(); ++i) {
    const int l = static_cast<int>(i % 32);
    const auto at = [&](int lane) { return x[i / 32 * 32 + static_cast<size_t>(lane)]; };
    double r =
        at(31 - l) + 2 * at(l ^ 5) + 3 * at(7) + 5 * at((l + 3) % 32) + 7 * at((l + 23) % 32);
    r += 11 * (l < 26 ? at(l + 6) : -at(l - 26)) + 13 * (l >= 2 ? at(l - 2) : 2 * at(l + 30));
    y.push_back(r + (l < 28 ? 17 * at(l + 4) : 0) + (l >= 4 ? 19 * at(l - 4) : 0) + 23 * at(0));
  }
  return y;
}

Values vote_words(const Given& g) {
  const Values x = g("x");
  Values y;
  for (size_t first = 0; first < x.size(); first += 32) {
    uint32_t votes = 0;
    bool positive = true, large = false;
    for (size_t l = 0; l < 32; ++l) {
      votes |= (static_cast<uint32_t>(static_cast<int32_t>(x[first + l])) & 1u) << l;
      positive = positive && x[first + l] >= 0, large = large || x[first + l] > 1000;
    }
    const uint32_t r = votes ^ (votes == ~0u ? 1u : 0u) ^ (votes ? 2u : 0u) ^ (positive ? 4u : 0u) ^
                       (large ? 8u : 0u) ^ 16u;
    for (size_t l = 0; l < 32; ++l) y.push_back(r ^ (l == 0 ? 32u : 0u));
  }
  return y;
}

Values quads(const Given& g) {
  const Values x = g("x");
  Values y;
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t q = i / 4 * 4, l = i % 4;
    const auto first = x.begin() + static_cast<long>(q);
    const auto at = [&](size_t lane) { return x[q + lane % 4]; };
    double before = 0, product = 1, odd = 0;
    for (size_t k = 0; k < l; ++k) before += at(k);
    for (size_t k = 0; k < 4; ++k) product *= at(k), odd += static_cast<int>(at(k)) & 1;
    const double most = *std::max_element(first, first + 4);
    const double least = *std::min_element(first, first + 4);
    double r = at(0) + at(1) + at(2) + at(3) + 2 * most + 3 * least + 5 * product;
    r += 7 * at(3 - l) + 11 * at(2) + 13 * at(l ^ 1) + before + x[i] + 2 * before;
    r += (l < 3 ? at(l + 1) : 0) + (l > 0 ? at(l - 1) : 0) + at(l + 1) + 2 * at(l + 3) + at(0);
    r += (least > 4 ? 100 : 0) + (most > 30 ? 1000 : 0) + odd + static_cast<double>(i / 4 % 2);
    y.push_back(r);
  }
  return y;
}

Values vectors(const Given& g) {
  const Values x = g("x");
  Values y;
  for (size_t i = 0; i < x.size() / 4; ++i) {
    const size_t first = i / 32 * 32;
    for (size_t c = 0; c < 4; ++c) {
      double most = -INFINITY, sum = 0;
      for (size_t l = first; l < first + 32; ++l) {
        most = std::max(most, x[4 * l + c]);
        sum += std::trunc(x[4 * l + c % 2]);
      }
      const double extra = c < 2 ? sum : std::trunc(x[4 * (first + 3) + c % 2]);
      y.push_back(x[4 * (i ^ 1) + c] + most + extra);
    }
  }
  return y;
}

void add_simd(std::vector<SuiteCase>& list) {
  CaseList cases(list, "simd.metal");
  const Size3 grid{96, 1, 1}, group{32, 1, 1};
  const std::pair<const char*, const char*> types[] = {
      {"int", "i32"},  {"uint", "u32"},  {"short", "i16"}, {"ushort", "u16"}, {"char", "i8"},
      {"uchar", "u8"}, {"float", "f32"}, {"half", "f16"},  {"bfloat", "bf16"}};
  for (const auto& [metal, host] : types)
    cases.add(std::string("simd_reduce_") + metal, grid, group,
              std::string("x=3,1,4,1,5,2,6:") + host + ":[96]", "y=f32:[3,4]", reduced);
  const std::pair<const char*, const char*> integers[] = {
      {"int", "i32"}, {"ushort", "u16"}, {"uchar", "u8"}};
  for (const auto& [metal, host] : integers)
    cases.add(std::string("simd_bits_") + metal, {96, 1, 1}, {96, 1, 1},
              std::string("x=bits:") + host + ":[96]", "y=i32:[96]", joined_bits);
  const std::pair<const char*, const char*> scans[] = {
      {"float", "f32"}, {"int", "i32"}, {"half", "f16"}};
  for (const auto& [metal, host] : scans)
    cases.add(std::string("simd_scans_") + metal, grid, group,
              std::string("x=3,1,4,1,5,2,6:") + host + ":[96]", "y=f32:[96]", scanned);
  cases.add("simd_moves", {128, 1, 1}, {64, 1, 1}, "x=rand:f32:[128]", "y=f32:[128]", moved, 1e-5);
  cases.add("simd_votes", {128, 1, 1}, {64, 1, 1}, "x=7,2,-3,2000,1:i32:[128]", "y=u32:[128]",
            vote_words);
  cases.add("quads", {64, 1, 1}, {64, 1, 1}, "x=3,9,31,5,7,2:f32:[64]", "y=f32:[64]", quads, 1e-6);
  cases.add("simd_vectors", {64, 1, 1}, {32, 1, 1}, "x=rand:f32:[64,4]", "y=f32:[64,4]", vectors,
            1e-6);
}

}  // namespace

void add_exchanges(std::vector<SuiteCase>& list) {
  CaseList cases(list, "exchange.metal");
  cases.add("histogram", {4096, 1, 1}, {256, 1, 1}, "x=arange:u8:[4096] bins=zeros:u32:[256]", "",
            [](const Given&) { return Values(256, 16); });
  cases.add(
      "float_add", {1000, 1, 1}, {128, 1, 1}, "x=uniform:f32:[1000] sum=zeros:f32:[1]", "",
      [](const Given& g) {
        const Values x = g("x");
        return Values{std::accumulate(x.begin(), x.end(), 0.0)};
      },
      1e-5);
  cases.add("exchange_max", {1000, 1, 1}, {128, 1, 1}, "x=uniform:f32:[1000] most=zeros:u32:[1]",
            "", [](const Given& g) {
              const Values x = g("x");
              const auto most = static_cast<float>(*std::max_element(x.begin(), x.end()));
              return Values{static_cast<double>(std::bit_cast<uint32_t>(most))};
            });
  cases.add("bitonic", {512, 1, 1}, {256, 1, 1}, "x=bits:i32:[512]", "y=i32:[512]",
            [](const Given& g) {
              Values x = g("x");
              for (auto i = x.begin(); i != x.end(); i += 256) std::sort(i, i + 256);
              return x;
            });
  cases.add("votes", {96, 1, 1}, {96, 1, 1}, "x=arange:u32:[96]", "y=u32:[96]", votes);
  cases.add("shuffles", {128, 1, 1}, {64, 1, 1}, "x=arange:i32:[128]", "y=i32:[128]", shuffles);
  cases.add("bits", {200, 1, 1}, {64, 1, 1}, "x=arange:u32:[200]", "y=u32:[200]",
            [](const Given& g) { return each(g, "x", all_bits); });
  cases.add("diverged", {64, 1, 1}, {64, 1, 1}, "x=arange:f32:[64]", "y=f32:[64]", diverged)
      .diverges = true;
  add_simd(list);
}

}  // namespace mlx_kd::devices::simt
