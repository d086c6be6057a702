// What kd msl says to bad input: always a place in the Metal text, never in what is made of it.
#include <gtest/gtest.h>

#include <fstream>

#include "tests/archive/temporary_folder.h"
#include "tests/support/run_cli.h"

namespace mlx_kd {
namespace {

constexpr const char* kHead = "#include <metal_stdlib>\nusing namespace metal;\n";
constexpr const char* kCopy =
    "kernel void k(device const half* x, device float* y, uint i [[thread_position_in_grid]]) {\n"
    "  y[i] = x[i];\n}\n";

class MslBadInput : public testing::Test {
 protected:
  // Runs kd msl VERB on a file k.metal with this text.
  tests::CliResult kd(const std::string& verb, const std::string& text,
                      std::vector<std::string> more = {}) {
    const std::string file = (folder_ / "k.metal").string();
    std::ofstream(file, std::ios::binary) << text;
    std::vector<std::string> words = {"msl", verb, file};
    words.insert(words.end(), more.begin(), more.end());
    return tests::run_cli(words);
  }

  void refused(const std::string& text, const std::string& place, const std::string& message) {
    for (const char* verb : {"check", "to-cuda"}) {
      const auto result = kd(verb, text);
      EXPECT_EQ(result.code, 2) << result.err;
      EXPECT_NE(result.err.find("k.metal:" + place + ": "), std::string::npos) << result.err;
      EXPECT_NE(result.err.find(message), std::string::npos) << result.err;
    }
  }

  void not_run(const std::vector<std::string>& more, const std::string& message, int code = 2,
               const std::string& text = std::string(kHead) + kCopy) {
    const auto result = kd("run", text, more);
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_NE(result.err.find(message), std::string::npos) << result.err;
    EXPECT_EQ(result.out, "");
  }

  archive::TemporaryFolder folder_;
};

TEST_F(MslBadInput, IsRefusedWhereItStands) {
  const std::string head = kHead;
  refused(head + "kernel void k(device float* y [[bufer(0)]]) {}\n", "3:33", "no attribute");
  refused(head + "#include \"nothing.h\"\n", "3:10", "'nothing.h' is in none of the folders");
  refused("int f(int n) { return n ? f(n - 1) : 0; }\n", "1:27", "no recursion");
  refused(head + "kernel void k(texture2d<float> t [[texture(0)]]) {}\n", "3:36", "not supported");
}

TEST_F(MslBadInput, OfTemplateArgumentsIsRefusedAtTheInstantiation) {
  const std::string kernel =
      std::string(kHead) +
      "template <typename T, int N> kernel void k(device T* y) { y[0] = N; }\n"
      "template [[host_name(\"a\")]] kernel ";
  refused(kernel + "decltype(k<float>) k<float>;\n", "4:1", "takes 2 template arguments");
  refused(kernel + "decltype(k<4, 4>) k<4, 4>;\n", "4:1", "argument 1 of 'k' is 4");
  refused(kernel + "decltype(k<half, half>) k<half, half>;\n", "4:1", "argument 2 of 'k' is half");
}

TEST_F(MslBadInput, ThatIsNoTextIsRefused) {
  refused(std::string("\x7f"
                      "ELF\x02\x01\x00\x00",
                      8) +
              std::string(5000, '\xfe'),
          "1:7", "not UTF-8 text");
  refused(std::string(10 << 20, ' '), "1:1", "at most 4194304 are read");
}

TEST_F(MslBadInput, OfTooMuchThreadgroupMemoryIsRefusedAtTheVariable) {
  const auto result = kd("check", std::string(kHead) +
                                      "kernel void k(device float* y) {\n"
                                      "  threadgroup float s[9000];\n  y[0] = s[0];\n}\n");
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("k.metal:4:"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("32 KiB"), std::string::npos) << result.err;
}

TEST_F(MslBadInput, OfSizesIsRefused) {
  const std::vector<std::string> arrays = {"--in", "x=rand:f16:[64]", "--out", "y=f32:[64]"};
  const auto sizes = [&](const char* grid, const char* threadgroup) {
    std::vector<std::string> words = {"--grid", grid, "--threadgroup", threadgroup};
    words.insert(words.end(), arrays.begin(), arrays.end());
    return words;
  };
  not_run(sizes("0", "64"), "k.metal:3:13: the grid has 0 threads in x");
  not_run(sizes("64", "0"), "k.metal:3:13: the threadgroup has 0 threads in x");
  not_run(sizes("64,0", "64"), "k.metal:3:13: the grid has 0 threads in y");
  not_run(sizes("64,64", "64,32"), "k.metal:3:13: a threadgroup of 2048 threads");
  not_run(sizes("-1", "64"), "--grid");
  not_run(sizes("99999999999", "64"), "--grid");
}

TEST_F(MslBadInput, OfArraysIsRefusedWhereTheBufferStands) {
  const std::vector<std::string> sizes = {"--grid", "64", "--threadgroup", "64"};
  const auto with = [&](std::vector<std::string> words) {
    words.insert(words.begin(), sizes.begin(), sizes.end());
    return words;
  };
  not_run(with({"--out", "y=f32:[64]"}), "k.metal:3:34: buffer 'x' of 'k' is not given");
  not_run(with({"--in", "x=rand:f32:[64]", "--out", "y=f32:[64]"}),
          "k.metal:3:34: buffer 'x' holds half (f16) and is given f32");
  not_run(with({"--in", "x=rand:f16:[64]", "--out", "y=f32:[4294967296,4294967296]"}),
          "k.metal:3:51: 'y=f32:[4294967296,4294967296]': this shape is too large");
  not_run(with({"--in", "x=rand:f16:[64]", "--out", "z=f32:[64]"}),
          "k.metal:3:13: kernel 'k' has no buffer 'z'");
}

TEST_F(MslBadInput, OfArraysThatCannotBeReadNamesTheirBuffer) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"x=rand:f99:[64]", "k.metal:3:34: 'x=rand:f99:[64]': 'f99' is not a type"},
      {"x=rand:f16:[0]", "k.metal:3:34: 'x=rand:f16:[0]': sizes are whole numbers from 1 on"},
      {"x=rand:f16:64", "k.metal:3:34: 'x=rand:f16:64': a shape looks like [128,4096]"},
      {"q=dots:f16:[64]", "k.metal:3:13: 'q=dots:f16:[64]': "}};
  for (const auto& [array, message] : cases)
    not_run({"--grid", "64", "--threadgroup", "64", "--in", array, "--out", "y=f32:[64]"}, message);
}

TEST_F(MslBadInput, OfThreadgroupArgumentsIsRefused) {
  const std::string text =
      "kernel void k(device float* y, threadgroup float* s [[threadgroup(0)]]) {\n"
      "  s[0] = 1; y[0] = s[0];\n}\n";
  const std::vector<std::string> words = {"--grid", "8",     "--threadgroup",
                                          "8",      "--out", "y=f32:[8]"};
  not_run(words, "k.metal:1:51: 's' needs its size", 2, text);
  std::vector<std::string> more = words;
  more.insert(more.end(), {"--group-bytes", "40000"});
  not_run(more, "k.metal:1:13: threadgroup arguments of 40000 bytes", 2, text);
}

TEST_F(MslBadInput, ThatIsNoMetalAfterTheFrontEndIsRefusedInItsOwnLines) {
  const std::string head = kHead;
  const auto told = [&](const std::string& body, const std::string& place) {
    const auto result = kd("check", head + "kernel void k(device float* y) {\n" + body + "\n}\n");
    EXPECT_EQ(result.code, 2) << result.err;
    EXPECT_NE(result.err.find("k.metal:" + place), std::string::npos) << result.err;
    for (const char* generated : {"kernel.cpp", "kd_place", "kd_bound", "<entries>"})
      EXPECT_EQ(result.err.find(generated), std::string::npos) << result.err;
  };
  told("  y[0] = nothing;", "4:");
  told("  half4 h = float3(1);", "4:");
  told("  y[0] = ;", "4:");
  told("  if (y[0] > 1) {", "");
}

TEST_F(MslBadInput, ThatNeverEndsIsStopped) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the thread sanitizer holds back the signal that ends a kernel";
#endif
  not_run({"--grid", "8", "--threadgroup", "8", "--out", "y=f32:[8]", "--timeout", "0.3"},
          "k.metal:1:13: kernel 'k' did not end within 0.3 s", 1,
          "kernel void k(device float* y) {\n  while (y[0] < 1) y[0] -= 1;\n}\n");
}

}  // namespace
}  // namespace mlx_kd
