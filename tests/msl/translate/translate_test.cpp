#include "mlx_kd/msl/translate/translate.h"

#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/msl/bodies/body_form.h"
#include "mlx_kd/msl/parse/parser.h"

namespace mlx_kd::msl {
namespace {

Translation made(const std::string& text, Target target = Target::cpp) {
  return translate(parse("t.metal", text, {}), target, {});
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Translate, FindsKernelsAndTheirBindings) {
  const Translation t = made(
      "template <typename T, int N> [[kernel]] void f(device T* y [[buffer(2)]],\n"
      "  constant const vec<T, N>& c, const device uint* x [[buffer(0)]],\n"
      "  threadgroup float* s [[threadgroup(0)]], uint i [[thread_position_in_grid]]) {}\n"
      "template [[host_name(\"f half\")]] kernel decltype(f<half, 4>) f<half, 4>;\n"
      "kernel void g(device float* y) { simdgroup_barrier(mem_flags::mem_none); }\n");
  ASSERT_EQ(t.kernels.size(), 2u);
  EXPECT_EQ(t.kernels[0].name, "g");
  EXPECT_TRUE(t.kernels[0].meets);
  const Kernel& f = t.kernels[1];
  EXPECT_EQ(f.name, "f half");
  EXPECT_EQ(f.symbol, "f_half");
  EXPECT_FALSE(f.meets);
  ASSERT_EQ(f.buffers.size(), 3u);
  EXPECT_EQ(f.buffers[0].name, "x");
  EXPECT_EQ(f.buffers[1].type, "vec<half,4>");
  EXPECT_TRUE(f.buffers[1].reference && f.buffers[1].is_const);
  EXPECT_EQ(f.buffers[2].index, 2);
  ASSERT_EQ(f.groups.size(), 1u);
}

TEST(Translate, KeepsTheLinesOfTheMetalText) {
  const Translation t = made(
      "\n\nkernel void k(device float* y,\n   uint i [[thread_position_in_grid]]) {\n  y[i] = "
      "1.0;\n}\n");
  const size_t directive = t.text.find("#line 3 \"t.metal\"\n");
  ASSERT_NE(directive, std::string::npos) << t.text;
  size_t line = 3, at = t.text.find('\n', directive) + 1;
  for (; t.text.compare(at, 13, "  y[i] = 1.0f") != 0; ++line) at = t.text.find('\n', at) + 1;
  EXPECT_EQ(line, 5u);
}

TEST(Translate, NumbersTheMeetingPlaces) {
  const Translation t =
      made("kernel void k(device float* y) {\n  y[0] = simd_sum(simd_max(y[0]));\n}\n");
  ASSERT_EQ(t.sites.size(), 2u);
  EXPECT_EQ(t.sites[1].line, 2u);
  EXPECT_EQ(t.sites[1].column, 19u);
  EXPECT_TRUE(has(t.text, "simd_sum(kd_site{0}, simd_max(kd_site{1}, y[0]))")) << t.text;
}

TEST(Translate, WritesReadableCuda) {
  const Translation t = made(
      "// Doubles.\nkernel void k(device float* y, constant uint& n,\n"
      "  uint i [[thread_position_in_grid]]) {\n"
      "  threadgroup float s[32];  // shared\n  if (i < n) y[i] = 2 * y[i];\n}\n",
      Target::cuda);
  for (const char* part :
       {"// Doubles.", "extern \"C\" __global__ void k(float* y, const uint* n_pointer, int grid_x",
        "uint i = kd_as<uint>(kd_place.thread_position_in_grid());", "const uint& n = *n_pointer;",
        "__shared__ float s[32];", "// shared", "if (i < n) y[i] = 2 * y[i];"})
    EXPECT_TRUE(has(t.text, part)) << part << "\n" << t.text;
}

// Nothing of the kernels that are left out stays, not what was put between their tokens either.
TEST(Translate, WritesOneKernelAloneInCuda) {
  const std::string text =
      "half twice(half x) { return 2 * x; }\n"
      "kernel void other(device half* y, constant float& z, uint i [[thread_position_in_grid]]) {\n"
      "  y[i] = i > 3 ? y[i] : z;\n}\n"
      "kernel void wanted(device half* y) { y[0] = twice(y[0]); }\n"
      "template <typename T> kernel void copied(device T* y) { y[0] = y[1]; }\n"
      "template [[host_name(\"copied_f\")]] kernel void copied<float>(device float*);\n"
      "template [[host_name(\"copied_h\")]] kernel void copied<half>(device half*);\n";
  const auto of = [&](const std::string& only) {
    TranslateOptions options;
    options.only = only;
    return translate(parse("t.metal", text, {}), Target::cuda, options);
  };
  const std::string all = of("").text;
  for (const char* part : {"void other(", "kd_pick", "void wanted(", "copied_f(", "copied_h("})
    EXPECT_TRUE(has(all, part)) << part << "\n" << all;
  const Translation plain = of("wanted"), made = of("copied_h");
  EXPECT_TRUE(has(plain.text, "void wanted(") && has(plain.text, "half twice(")) << plain.text;
  EXPECT_TRUE(has(made.text, "void copied_h(")) << made.text;
  for (const char* part : {"other", "kd_pick", "copied_f(", "copied_h("})
    EXPECT_FALSE(has(plain.text, part)) << part << "\n" << plain.text;
  for (const char* part : {"other", "kd_pick", "wanted", "copied_f("})
    EXPECT_FALSE(has(made.text, part)) << part << "\n" << made.text;
  EXPECT_EQ(made.kernels.size(), 4u);
}

TEST(Translate, BoundsTheThreadsOfTemplatesInCuda) {
  const std::string head =
      "template <typename T, int W, int M = 2> [[kernel, max_total_threads_per_threadgroup(";
  const std::string body =
      " * 32)]] void f(device T* y) { y[0] = W; }\n"
      "template [[host_name(\"f_4\")]] [[kernel]] void f<float, 4>(device float*);\n";
  const auto of = [&](const std::string& bound) {
    return translate(parse("t.metal", head + bound + body, {}), Target::cuda, {});
  };
  EXPECT_TRUE(has(of("W").text, "__launch_bounds__(4*32) f_4(")) << of("W").text;
  EXPECT_EQ(of("W").kernels.at(0).most_threads, "4*32");
  // Defaults are not known here.
  EXPECT_FALSE(has(of("W * M").text, "__launch_bounds__")) << of("W * M").text;
}

TEST(Translate, LeavesNamespaceMetalOneNamespaceInCuda) {
  const std::string text =
      "namespace metal {\nnamespace more { constant int two = 2; }\n}\n"
      "namespace own { namespace metal { constant int three = 3; } }\n"
      "namespace other = metal;\n"
      "template <typename T> struct Box { T of; };\n"
      "template <typename T> struct Box<T*> { int of; };\n"
      "template <typename T> struct numeric_limits<Box<T>> { static constexpr int size = 1; };\n"
      "kernel void k(device int* y) { y[0] = metal::more::two + metal::max(y[1], 1); }\n";
  const Translation t = translate(parse("t.metal", text, {}), Target::cuda, {});
  EXPECT_TRUE(has(t.text, "} } namespace metal {")) << t.text;
  EXPECT_TRUE(has(t.text, "} namespace metal { namespace source {")) << t.text;
  EXPECT_TRUE(has(t.text, "namespace own { namespace metal {")) << t.text;
  EXPECT_TRUE(has(t.text, "namespace other = metal;")) << t.text;
  EXPECT_TRUE(has(t.text, "} template <typename T> struct numeric_limits<Box<T>>")) << t.text;
  EXPECT_TRUE(has(t.text, "size = 1; }; namespace source {")) << t.text;
  EXPECT_FALSE(has(t.text, "} template <typename T> struct Box")) << t.text;
  EXPECT_FALSE(has(translate(parse("t.metal", text, {}), Target::cpp, {}).text, "} } namespace"));
}

TEST(Translate, LeavesFieldsThatLookLikeSwizzles) {
  const Translation t =
      made("struct S { float xy; };\nfloat f(S s, float2 v) { return s.xy + v.yx.x; }\n");
  EXPECT_TRUE(has(t.text, "s.xy + v.swizzle(kd_order<1, 0>{}).x")) << t.text;
}

// The field tells that it was read as a type.
TEST(Translate, TakesTypesWithAnAlignment) {
  for (const char* head : {"struct alignas(16) S", "struct __attribute__((aligned(16))) S",
                           "struct alignas(sizeof(float4)) S", "union alignas(4) S"}) {
    const std::string text =
        std::string(head) + " { float xy; };\nfloat f(S s, float2 v) { return s.xy + v.yx.x; }\n";
    const Unit unit = parse("t.metal", text, {});
    EXPECT_TRUE(unit.globals.empty()) << head;
    ASSERT_EQ(unit.functions.size(), 1u) << head;
    EXPECT_EQ(unit.functions[0].scope, "") << head;
    const Translation t = made(text);
    EXPECT_TRUE(has(t.text, head)) << t.text;
    EXPECT_TRUE(has(t.text, "s.xy + v.swizzle(kd_order<1, 0>{}).x")) << t.text;
  }
  const Unit scoped =
      parse("t.metal", "struct alignas(8) S { float g() const { return 1; } };", {});
  ASSERT_EQ(scoped.functions.size(), 1u);
  EXPECT_EQ(scoped.functions[0].scope, "S::");
}

TEST(BodyForm, AddsWhatMlxAdds) {
  BodyKernel kernel;
  kernel.name = "k";
  kernel.source = "uint i = thread_position_in_grid.x;\ny[i] = x[i] + T(s) + x_shape[0] + c[0];";
  kernel.inputs = {{"x", "float16", 2, 64}, {"c", "float32", 1, 4}, {"s", "float32", 0, 1}};
  kernel.outputs = {{"y", "bfloat16", 1, 64}};
  kernel.templates = {{"T", "dtype", "float32"}, {"N", "int", "4"}};
  const BodyForm form = whole_source(kernel);
  for (const char* part :
       {"template <typename T, int N>", "const device float16_t* x [[buffer(0)]]",
        "const constant int* x_shape [[buffer(1)]]", "const constant float* c [[buffer(2)]]",
        "const constant float& s [[buffer(3)]]", "device bfloat16_t* y [[buffer(4)]]",
        "uint3 thread_position_in_grid [[thread_position_in_grid]]", "k<float, 4>"})
    EXPECT_TRUE(has(form.text, part)) << part << "\n" << form.text;
  PreprocessOptions options;
  options.texts = form.texts;
  const Translation t = translate(parse("k", form.text, options), Target::cpp, {});
  ASSERT_EQ(t.kernels.size(), 1u);
  EXPECT_EQ(t.kernels[0].buffers.size(), form.buffers.size());
  EXPECT_TRUE(has(t.text, "#line 2 \"kd_body\"\n") || has(t.text, "#line 1 \"kd_body\"\n"));
}

TEST(BodyForm, RefusesWhatCannotBeAKernel) {
  BodyKernel kernel;
  kernel.name = "k";
  EXPECT_THROW(whole_source(kernel), base::Error);
  kernel.outputs = {{"y", "float64", 1, 1}};
  EXPECT_THROW(whole_source(kernel), base::Error);
  kernel.outputs = {{"y", "float32", 1, 1}};
  kernel.inputs = {{"y", "float32", 1, 1}};
  EXPECT_THROW(whole_source(kernel), base::Error);
  kernel.inputs = {{"2x", "float32", 1, 1}};
  EXPECT_THROW(whole_source(kernel), base::Error);
}

TEST(Translate, RefusesListsWithAnEmptyPartAtTheVeryStart) {
  for (const char* text : {"/,/", "int a,,b;"}) EXPECT_THROW(made(text), base::Error) << text;
}

// Damaged sources end in a message or a translation, never in a crash.
TEST(Translate, SurvivesDamagedSources) {
  const std::string sound =
      "#include <metal_stdlib>\nusing namespace metal;\n#define F(x, ...) x##1 #x __VA_ARGS__\n"
      "constant float t[2] = {1.0, 2.0h};\nstruct S { float a; void f() const { } };\n"
      "template <typename T, int N = 2> [[kernel]] void k(device T* y [[buffer(0)]],\n"
      "  uint i [[thread_position_in_grid]]) {\n  threadgroup float s[N][4], r;\n"
      "  y[i] = i > 2 ? simd_sum(y[i]) : T(float4(1).zyx.x);\n}\n"
      "template [[host_name(\"k\")]] kernel decltype(k<half>) k<half>;\n";
  const std::string marks = "(){}[]<>;:,.?#\"'\\/*&=\n 0aT";
  base::Random random(5);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text = sound;
    for (uint64_t n = 1 + random.below(4); n > 0; --n) {
      const size_t at = random.below(text.size());
      const uint64_t how = random.below(3);
      if (how == 0) text.erase(at, 1 + random.below(8));
      if (how == 1) text.insert(at, 1, marks[random.below(marks.size())]);
      if (how == 2) text.insert(at, text.substr(random.below(text.size()), random.below(30)));
    }
    try {
      const Unit unit = parse("t.metal", text, {});
      translate(unit, Target::cpp, {});
      translate(unit, Target::cuda, {});
    } catch (const base::Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 500);
}

TEST(Translate, GivesCudaNumbersByValueBehindThePointers) {
  const std::string text =
      "kernel void k(constant float& eps [[buffer(0)]], device float* y [[buffer(1)]],\n"
      "  constant long& n [[buffer(2)]], const device float* x [[buffer(3)]],\n"
      "  constant float4& c [[buffer(4)]], constant ushort& s [[buffer(5)]]) {}\n";
  const TranslateOptions options{{}, true, true};
  const Translation t = translate(parse("t.metal", text, {}), Target::cuda, options);
  EXPECT_TRUE(has(t.text,
                  "void k(const float* __restrict__ x, const float4* __restrict__ c_pointer, "
                  "float* __restrict__ y, float eps_value, int n_low, int n_high, int s_value, "
                  "int grid_x, int grid_y, int grid_z)"))
      << t.text;
  EXPECT_TRUE(has(t.text, "const ushort s = (ushort)s_value;")) << t.text;
  const auto layout = cuda_layout(t.kernels.at(0), options);
  ASSERT_EQ(layout.size(), 10u);
  EXPECT_EQ(layout[0].binding, 3u);
  EXPECT_EQ(layout[3].kind, CudaParameter::Kind::real);
  EXPECT_EQ(layout[5].kind, CudaParameter::Kind::high);
  EXPECT_EQ(cuda_layout(t.kernels[0], {})[0].binding, 0u);
}

}  // namespace
}  // namespace mlx_kd::msl
