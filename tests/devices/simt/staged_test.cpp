// Candidates of several stages on the executor.
#include <gtest/gtest.h>

#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "mlx_kd/base/error.h"
#include "tests/devices/staged_metal.h"

namespace mlx_kd::devices::simt {
namespace {

namespace mx = mlx::core;

const Device& device() {
  static const auto opened = open_device("simt");
  return *opened;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

mx::array array_of(const std::vector<float>& values, const mx::Shape& shape) {
  return mx::array(values.begin(), shape, mx::float32);
}

template <class T>
std::vector<T> values_of(mx::array array) {
  mx::eval(array);
  return {array.data<T>(), array.data<T>() + array.size()};
}

TEST(StagedCandidates, HandScratchMemoryOnAndGiveOutputsOfSeveralTypes) {
  const auto program = loaded(device(), pick_candidate());
  for (const auto& [rows, d] : kStagedSizes)
    EXPECT_EQ(launch_pick(*program, rows, d, -2),
              expected_pick(some_numbers(rows * d), rows, d, -2))
        << rows << " x " << d;
}

TEST(StagedCandidates, ReadStridedInputsAsTheyLie) {
  const auto program = loaded(device(), pick_candidate());
  EXPECT_EQ(launch_pick(*program, 3, 10, 1, 6), expected_pick(some_numbers(30), 3, 10));
  const mx::array x = array_of(some_numbers(60), {3, 20});
  const mx::array view = mx::slice(x, {0, 0}, {3, 10}, mx::Device(mx::Device::cpu));
  std::vector<float> row_major;
  for (int r = 0; r < 3; ++r)
    for (int i = 0; i < 10; ++i) row_major.push_back(some_numbers(60)[size_t(20 * r + i)]);
  const auto made = program->call({view}, {{3}, {3}}, pick_call(3, 10));
  EXPECT_EQ((Picked{values_of<uint32_t>(made[0]), values_of<float>(made[1])}),
            expected_pick(row_major, 3, 10));
  // The last axis is not contiguous: it is copied.
  const mx::array turned =
      mx::transpose(array_of(some_numbers(30), {10, 3}), {1, 0}, mx::Device(mx::Device::cpu));
  const auto of_turned = program->call({turned}, {{3}, {3}}, pick_call(3, 10));
  EXPECT_EQ(
      values_of<float>(of_turned[1]),
      expected_pick(values_of<float>(mx::contiguous(turned, false, mx::Device::cpu)), 3, 10).best);
}

TEST(StagedCandidates, UpdateInPlace) {
  const auto program = loaded(device(), add_candidate());
  for (const auto& [rows, c] : kStagedSizes)
    EXPECT_EQ(launch_add(*program, rows, c, 1),
              expected_add(some_numbers(rows * c), some_numbers(rows), rows, c, 1));
}

TEST(StagedCandidates, TakeOverAnUpdatedArrayThatNobodyElseHolds) {
  const auto program = loaded(device(), add_candidate());
  const auto expected = expected_add(some_numbers(24), some_numbers(3), 3, 8, 2);
  mx::array cache = array_of(some_numbers(24), {3, 8});
  mx::eval(cache);
  const void* const memory = cache.data<float>();
  const mx::array x = array_of(some_numbers(3), {3});
  mx::array kept = program->call({cache, x}, {{3, 8}}, add_call(3, 8, 2))[0];
  EXPECT_EQ(values_of<float>(kept), expected);
  EXPECT_NE(kept.data<void>(), memory);  // `cache` is still held
  EXPECT_EQ(values_of<float>(cache), some_numbers(24));
  mx::array moved = program->call({std::move(cache), x}, {{3, 8}}, add_call(3, 8, 2))[0];
  EXPECT_EQ(values_of<float>(moved), expected);
  EXPECT_EQ(moved.data<void>(), memory);
}

TEST(StagedCandidates, OfAnEmptyBatchGiveNothing) {
  const auto program = loaded(device(), pick_candidate());
  const auto made = program->call({mx::zeros({0, 5})}, {{0}, {0}}, pick_call(0, 5));
  EXPECT_EQ(values_of<uint32_t>(made[0]).size(), 0u);
}

std::vector<std::string> faults_of(const std::string& text) {
  const std::vector<float> x = some_numbers(3 * 9);
  return device().check(pick_candidate(text), {bytes_of(x)}, {12, 12}, pick_call(3, 9));
}

TEST(StagedCandidates, AreWatchedStageByStage) {
  EXPECT_EQ(faults_of(kPickText), std::vector<std::string>());
  const auto race = faults_of(replaced(kPickText, "best[row] =", "best[0] ="));
  ASSERT_FALSE(race.empty());
  EXPECT_EQ(race[0].find("stage 2 of 2 (pick_rows): pick.metal:"), 0u) << race[0];
  EXPECT_NE(race[0].find("data race"), std::string::npos) << race[0];
  const auto beyond = faults_of(replaced(kPickText, "scratch1[row * blocks + block] = at",
                                         "scratch1[row * blocks + block + 3] = at"));
  ASSERT_FALSE(beyond.empty());
  EXPECT_EQ(beyond[0].find("stage 1 of 2 (pick_blocks): pick.metal:"), 0u) << beyond[0];
  EXPECT_NE(beyond[0].find("of 'scratch1', which lies outside"), std::string::npos) << beyond[0];
  const auto strides = faults_of(replaced(kPickText, "x_strides[0]", "x_strides[2]"));
  ASSERT_FALSE(strides.empty());
  EXPECT_NE(strides[0].find("'x_strides'"), std::string::npos) << strides[0];
}

TEST(StagedCandidates, AreWatchedWhereTheyUpdateInPlace) {
  const std::vector<float> cache = some_numbers(24), x = some_numbers(3);
  EXPECT_EQ(
      device().check(add_candidate(), {bytes_of(cache), bytes_of(x)}, {96}, add_call(3, 8, 2)),
      std::vector<std::string>());
}

std::string refusal(const std::string& text, const Call& call = pick_call(2, 5)) {
  try {
    const auto program = loaded(device(), pick_candidate(text));
    const std::vector<float> x = some_numbers(10);
    std::vector<uint32_t> token(2);
    std::vector<float> best(2);
    program->launch({x.data()}, {token.data(), best.data()}, call);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

TEST(StagedCandidates, SayWhichBufferIsWrong) {
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(refusal(replaced(kPickText, "constant float& scale",
                       "constant float& scale, device float* other")),
      "'other' is not an array of op 'pick'");
  has(refusal(
          replaced(kPickText, "const constant long* x_strides", "const constant int* x_strides")),
      "'x_strides' holds strides: bind it as const constant long*");
  Call one_stage = pick_call(2, 5);
  one_stage.stages.resize(1);
  has(refusal(kPickText, one_stage), "has a buffer for 'token'");
  Call unknown = pick_call(2, 5);
  unknown.stages[1].func_name = "pick_none";
  has(refusal(kPickText, unknown), "no kernel 'pick_none'");
  Call without = pick_call(2, 5);
  without.scalar_names.clear();
  has(refusal(kPickText, without), "takes 'scale', which this call does not give");
}

}  // namespace
}  // namespace mlx_kd::devices::simt
