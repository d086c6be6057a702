// One kernel of several: what is cut out of a file, what stays, and what the kernel uses.
#include "mlx_kd/msl/bodies/one_kernel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "mlx_kd/base/error.h"
#include "mlx_kd/msl/parse/parser.h"

namespace mlx_kd::msl {
namespace {

constexpr const char* kHead = "#include <metal_stdlib>\nusing namespace metal;\n";
constexpr const char* kWanted =
    "kernel void wanted(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {\n"
    "  y[i] = 1;\n"
    "}\n";

Unit parsed(const std::string& text) {
  return parse("k.metal", text, {}, Unsupported::kept);
}

std::string cut(const std::string& text, const std::string& name = "wanted") {
  const Unit unit = parsed(text);
  const Instantiation* instantiation = nullptr;
  for (const Instantiation& one : unit.instantiations)
    if (one.host_name == name) instantiation = &one;
  const Function* kernel = unit.definition_of(instantiation ? instantiation->function : name);
  return edited(text, cuts_around(text, unit, *kernel, instantiation));
}

std::string kernel_named(const std::string& name, const std::string& body = "y[i] = 2;") {
  return "kernel void " + name +
         "(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) { " + body + " }\n";
}

TEST(OneKernel, OthersAreBlankAndLinesStay) {
  const std::string text = kHead + kernel_named("first") + kWanted +
                           "kernel void last(device float* q [[buffer(0)]],\n"
                           "                 uint i [[thread_position_in_grid]]) {\n"
                           "#pragma unroll\n"
                           "  for (int k = 0; k < 4; ++k) q[i] = \"(\"[0] + '{';  // ((\n"
                           "}\n";
  EXPECT_EQ(cut(text), std::string(kHead) + "\n" + kWanted + "\n\n\n\n\n");
}

TEST(OneKernel, AFileOfOneKernelStays) {
  EXPECT_EQ(cut(std::string(kHead) + kWanted), std::string(kHead) + kWanted);
}

TEST(OneKernel, OtherInstantiationsGo) {
  const std::string text = std::string(kHead) +
                           "template <typename T>\n"
                           "kernel void f(device T* y [[buffer(0)]]) { y[0] = 1; }\n"
                           "template [[host_name(\"a\")]] kernel decltype(f<float>) f<float>;\n"
                           "template [[host_name(\"b\")]] kernel decltype(f<half>) f<half>;\n";
  const std::string left = cut(text, "b");
  EXPECT_EQ(left.find("\"a\""), left.npos);
  EXPECT_NE(left.find("\"b\""), left.npos);
  EXPECT_NE(left.find("kernel void f"), left.npos);
  EXPECT_EQ(std::count(left.begin(), left.end(), '\n'), std::count(text.begin(), text.end(), '\n'));
}

TEST(OneKernel, UsesOfMacrosThatMakeOthersGo) {
  const std::string text = std::string(kHead) +
                           "#define MAKE(name, type) \\\n"
                           "  kernel void name(device type* y [[buffer(0)]]) { y[0] = 1; } \\\n"
                           "  kernel void name##_two(device type* y [[buffer(0)]]) { y[0] = 2; }\n"
                           "MAKE(some, float)  // (\n" +
                           kWanted + "MAKE(more,\n     half)\n";
  const std::string left = cut(text);
  EXPECT_EQ(left.find("MAKE(some"), left.npos);
  EXPECT_EQ(left.find("MAKE(more"), left.npos);
  EXPECT_NE(left.find("#define MAKE"), left.npos);
  EXPECT_EQ(left.substr(left.find(kWanted)), std::string(kWanted) + "\n\n");
  // One that is an argument of a macro leaves the macro empty.
  const std::string argument = std::string(kHead) + kWanted + "#define AS_IT_IS(text) text\n" +
                               "AS_IT_IS(kernel void other(device float* y [[buffer(0)]]) {})\n";
  EXPECT_TRUE(cut(argument).ends_with("AS_IT_IS()\n"));
}

TEST(OneKernel, WhatCannotBeCutOutExactlyStays) {
  // The same use makes the wanted kernel.
  const std::string shared = std::string(kHead) +
                             "#define BOTH(type) \\\n"
                             "  kernel void wanted(device type* y [[buffer(0)]]) { y[0] = 1; } \\\n"
                             "  kernel void other(device type* y [[buffer(0)]]) { y[0] = 2; }\n"
                             "BOTH(float)\n";
  EXPECT_EQ(cut(shared), shared);
  // A condition begins in front of it and ends inside.
  const std::string conditional = std::string(kHead) + kWanted +
                                  "#if 1\n"
                                  "kernel void other(device float* y [[buffer(0)]]) {\n"
                                  "#else\n"
                                  "kernel void other(device half* y [[buffer(0)]]) {\n"
                                  "#endif\n"
                                  "  y[0] = 2;\n"
                                  "}\n";
  EXPECT_EQ(cut(conditional), conditional);
}

TEST(OneKernel, WhatIsAboutTexturesGoesUnlessItIsUsed) {
  const std::string sampled =
      "constexpr sampler near(filter::nearest);\n"
      "float4 sampled(texture2d<float> t, float2 at) { return t.sample(near, at); }\n"
      "kernel void blurred(texture2d<float> t [[texture(0)]], device float4* y [[buffer(0)]]) {\n"
      "  y[0] = sampled(t, 0);\n"
      "}\n";
  EXPECT_EQ(cut(kHead + sampled + kWanted), std::string(kHead) + "\n\n\n\n\n" + kWanted);
  const std::string wanted = cut(kHead + sampled + kWanted, "blurred");
  EXPECT_EQ(wanted.find(kWanted), wanted.npos);
  EXPECT_NE(wanted.find(sampled), wanted.npos);
  EXPECT_THROW(parse("k.metal", wanted, {}), base::Error);
}

TEST(OneKernel, UsesWhatItMentionsAndWhatThatMentions) {
  const std::string text = std::string(kHead) +
                           "constant int DEPTH [[function_constant(0)]];\n"
                           "constant int FAR [[function_constant(1)]];\n"
                           "constant int WIDTH [[function_constant(2)]];\n"
                           "constant int twice_depth = 2 * DEPTH;\n"
                           "struct Row { int size() const { return WIDTH; } };\n"
                           "float deep() { return twice_depth; }\n" +
                           kernel_named("wanted", "y[i] = deep();") +
                           kernel_named("other", "y[i] = FAR;");
  const Unit unit = parsed(text);
  const auto words = words_used_by(unit, *unit.definition_of("wanted"));
  EXPECT_TRUE(words.contains("DEPTH"));
  EXPECT_TRUE(words.contains("WIDTH"));  // members count as used
  EXPECT_FALSE(words.contains("FAR"));
}

}  // namespace
}  // namespace mlx_kd::msl
