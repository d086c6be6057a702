// What Apple's compiler rejects is rejected here, at the line that is wrong. Sections are those of
// the Metal Shading Language specification, version 4.
#include <gtest/gtest.h>

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/simt/program/simt_compiler.h"
#include "mlx_kd/msl/parse/parser.h"
#include "mlx_kd/msl/rules/rules.h"

namespace mlx_kd::devices::simt {
namespace {

struct Reject {
  const char* name;
  const char* section;
  const char* text;  // the wrong line ends with "//!"
};

// A body of a kernel with usual buffers.
#define BODY(name, section, line)                                                               \
  {                                                                                             \
    name, section,                                                                              \
        "kernel void k(device const float* x, device float* y, device half* h, device bfloat* " \
        "b,\n"                                                                                  \
        "              constant float* c, device atomic_uint* a,\n"                             \
        "              uint i [[thread_position_in_grid]]) {\n"                                 \
        "  threadgroup float s[32];\n  " line " //!\n}\n"                                       \
  }

const Reject kRejects[] = {
    // Words and types.
    BODY("Double", "2.1", "double d = 1;"),
    BODY("LongLong", "2.1", "long long d = 1;"),
    BODY("Wchar", "2.1", "wchar_t d = 1;"),
    BODY("Goto", "1.5.4", "goto end; end:;"),
    BODY("New", "1.5.4", "float* p = new float;"),
    BODY("Throw", "1.5.4", "throw 1;"),
    BODY("Try", "1.5.4", "try { y[i] = 1; } catch (...) {}"),
    BODY("Typeid", "1.5.4", "auto t = typeid(int).hash_code();"),
    BODY("DynamicCast", "1.5.4", "auto p = dynamic_cast<int*>(y);"),
    BODY("Register", "1.5.4", "register int r = 1;"),
    BODY("ThreadLocal", "1.5.4", "thread_local int r = 1;"),
    BODY("Assembly", "1.5.4", "asm(\"nop\");"),
    {"AssemblyLabel", "1.5.4", "void copy(int n) __asm(\"air.simdgroup_async_copy_1d\"); //!\n"},
    BODY("Delete", "1.5.4", "device float* p = y; delete p;"),
    BODY("StandardLibrary", "1.5.4", "y[i] = std::sqrt(x[i]);"),
    {"Virtual", "1.5.4", "struct A { virtual void f(); }; //!\n"},
    {"LibraryHeader", "1.5.4", "#include <vector> //!\n"},
    {"Recursion", "1.5.4", "int f(int n) { return n ? f(n - 1) : 0; } //!\n"},
    {"MutualRecursion", "1.5.4",
     "int g(int n);\nint f(int n) { return g(n); }\nint g(int n) { return f(n); } //!\n"},
    {"Main", "1.5.4", "kernel void main(device float* y) { y[0] = 1; } //!\n"},
    // Conversions.
    BODY("FloatToBfloat", "2.23", "bfloat v = x[i];"),
    BODY("FloatLiteralToBfloat", "2.23", "b[i] = 1.0;"),
    BODY("HalfToBfloat", "2.23", "b[i] = h[i];"),
    BODY("BfloatToHalf", "2.23", "h[i] = b[i];"),
    BODY("FloatReturnedAsBfloat", "2.23",
         "auto f = [](float v) -> bfloat { return v; }; b[i] = f(x[i]);"),
    BODY("VectorToOtherWidth", "2.23", "float3 v = float4(1.0f);"),
    BODY("VectorToOtherType", "2.23", "half4 v = float4(1.0f);"),
    BODY("IntVectorToFloatVector", "2.23", "float2 v = int2(1, 2);"),
    BODY("VectorToScalar", "2.23", "float v = float2(1.0f);"),
    BODY("MixedVectorSum", "3.1", "float4 v = float4(1.0f) + half4(1.0h);"),
    BODY("MixedWidthProduct", "3.1", "auto v = float4(1.0f) * float3(1.0f);"),
    BODY("TooFewComponents", "2.2.2", "float4 v = float4(1.0f, 2.0f);"),
    BODY("TooManyComponents", "2.2.2", "float2 v = float2(1.0f, 2.0f, 3.0f);"),
    BODY("TooManyComponentsInVectors", "2.2.2", "float3 v = float3(float2(1.0f), float2(1.0f));"),
    BODY("FloatRemainder", "3.1", "float4 v = float4(1.0f) % float4(2.0f);"),
    BODY("FloatBits", "3.1", "float v = x[i] & 1;"),
    BODY("VectorCondition", "3.1", "if (float2(1.0f) < float2(2.0f)) y[i] = 1;"),
    // Swizzles.
    BODY("NoSuchComponent", "2.2.1", "float v = float2(1.0f).z;"),
    BODY("SwizzleBeyondWidth", "2.2.1", "float2 v = float2(1.0f).xz;"),
    BODY("MixedSwizzleSets", "2.2.1", "float2 v = float4(1.0f).xg;"),
    BODY("RepeatedInAssignment", "2.2.1", "float4 v = float4(1.0f); v.xx = float2(1.0f);"),
    BODY("LongSwizzle", "2.2.1", "auto v = float4(1.0f).xyzwx;"),
    BODY("AsTypeOfOtherSize", "2.22", "half v = as_type<half>(x[i]);"),
    // Functions.
    BODY("MaxOfFloatAndInt", "6.5", "y[i] = max(x[i], 0);"),
    BODY("MinOfIntAndUint", "6.3", "y[i] = min(int(i), i);"),
    BODY("MaxOfHalfAndFloat", "6.5", "y[i] = max(h[i], 0.0f);"),
    BODY("ClampOfFloatByInts", "6.2", "y[i] = clamp(x[i], 0, 1);"),
    BODY("ExpOfInt", "6.5", "y[i] = exp(2);"),
    BODY("SqrtOfUint", "6.5", "y[i] = sqrt(i);"),
    BODY("PowOfInts", "6.5", "y[i] = pow(2, 3);"),
    BODY("PopcountOfFloat", "6.3", "y[i] = popcount(x[i]);"),
    BODY("DotOfScalars", "6.8", "y[i] = dot(x[i], x[i]);"),
    BODY("CrossOfWidth4", "6.8", "auto v = cross(float4(1.0f), float4(1.0f));"),
    BODY("SimdSumOfBool", "6.9.2", "y[i] = simd_sum(true);"),
    BODY("SimdSumOfLong", "6.9.2", "y[i] = simd_sum(long(i));"),
    BODY("SimdAndOfFloat", "6.9.2", "y[i] = simd_and(x[i]);"),
    BODY("BarrierWithoutFlags", "6.9.1", "threadgroup_barrier();"),
    BODY("BarrierWithNumber", "6.9.1", "threadgroup_barrier(2);"),
    BODY("MatrixOf4x4", "2.4", "simdgroup_matrix<float, 4, 4> m;"),
    BODY("MatrixOfInt", "2.4", "simdgroup_matrix<int, 8, 8> m;"),
    // Atomics.
    BODY("AtomicAssigned", "2.6", "a[i] = 1;"),
    BODY("AtomicCopied", "2.6", "auto v = a[i];"),
    BODY("AtomicSum", "2.6", "a[i] += 1;"),
    BODY("AtomicOfHalf", "2.6",
         "threadgroup atomic<half> v; atomic_store_explicit(&v, 1.0h, memory_order_relaxed);"),
    BODY("FetchAndOnPlain", "6.15.4.5", "atomic_fetch_add_explicit(y, 1, memory_order_relaxed);"),
    BODY("FetchWithoutOrder", "6.15.4.5", "atomic_fetch_add_explicit(a, 1);"),
    // Address spaces.
    BODY("ConstantToDevice", "4", "const device float* p = c;"),
    BODY("DeviceToThreadgroup", "4", "threadgroup const float* p = x;"),
    BODY("ThreadgroupToDevice", "4", "device float* p = s;"),
    BODY("CastAcrossSpaces", "4", "auto p = (threadgroup float*)y;"),
    BODY("DeviceToPlain", "4", "float* p = y;"),
    BODY("SumToPlain", "4", "float* p = (i + y) + 1;"),
    BODY("AddressToPlain", "4", "const float* p = &x[2];"),
    BODY("ChoiceToPlain", "4", "const float* p = i > 3 ? x + 1 : x;"),
    BODY("BracketToThreadgroup", "4", "threadgroup float* p = (y + 4);"),
    {"ArrayOfFunctionConstant", "5.8.1",
     "constant uint n [[function_constant(0)]];\nconstant uint twice = 2 * n;\n"
     "kernel void k(device float* y) {\n  float a[twice]; //!\n  y[0] = a[0];\n}\n"},
    BODY("AddressAcrossSpaces", "4", "device float* p = &s[3];"),
    BODY("WriteToConstant", "4.2", "c[i] = 1;"),
    BODY("WriteToConst", "4.1", "((device const float*)y)[i] = 1;"),
    BODY("InitialisedThreadgroup", "4.4", "threadgroup float t = 1;"),
    {"ArgumentAcrossSpaces", "4",
     "float f(threadgroup float* p) { return p[0]; }\n"
     "kernel void k(device float* y) {\n  y[0] = f(y); //!\n}\n"},
    {"PointerWithoutSpace", "4", "float f(float* p) { return p[0]; } //!\n"},
    {"ReferenceWithoutSpace", "4", "void f(float& p) { p = 1; } //!\n"},
    {"ThreadgroupInFunction", "4.4", "void f() { threadgroup float t[4]; } //!\n"},
    {"GlobalWithoutSpace", "4.2", "float table[2] = {1, 2}; //!\n"},
    {"GlobalInThreadgroup", "4.2", "threadgroup float table[2]; //!\n"},
    {"ConstantWithoutValue", "4.2", "constant float k; //!\n"},
    // Kernels.
    {"KernelReturns", "5.1.3", "kernel int k(device int* y) { return 1; } //!\n"},
    {"KernelOverloaded", "1.5.1",
     "kernel void k(device int* y) {}\nkernel void k(device float* y) {} //!\n"},
    {"KernelValueParameter", "5.2", "kernel void k(float v) {} //!\n"},
    {"KernelThreadPointer", "4", "kernel void k(thread float* v) {} //!\n"},
    {"UnknownAttribute", "5.2", "kernel void k(device int* y [[bufer(0)]]) {} //!\n"},
    {"SameBufferTwice", "5.2.1",
     "kernel void k(device int* x [[buffer(1)]], device int* y [[buffer(1)]]) {} //!\n"},
    {"BufferBeyond30", "5.2.1", "kernel void k(device int* y [[buffer(31)]]) {} //!\n"},
    {"BufferOfThreadgroup", "5.2.1", "kernel void k(threadgroup int* y [[buffer(0)]]) {} //!\n"},
    {"PositionAsFloat", "5.2.3.6",
     "kernel void k(device int* y, float i [[thread_position_in_grid]]) {} //!\n"},
    {"PositionAsInt3", "5.2.3.6",
     "kernel void k(device int* y, int3 i [[thread_position_in_grid]]) {} //!\n"},
    {"LaneAsVector", "5.2.3.6",
     "kernel void k(device int* y, uint3 i [[thread_index_in_simdgroup]]) {} //!\n"},
    {"WidthsDiffer", "5.2.3.6",
     "kernel void k(device int* y, uint i [[thread_position_in_grid]], uint2 n "
     "[[threads_per_grid]]) {} //!\n"},
    {"Texture", "2.9", "kernel void k(device int* y [[texture(0)]]) {} //!\n"},
    {"TextureAsMember", "2.9", "struct Two { texture2d<float> one; }; //!\n"},
    {"RayTracing", "2.17",
     "kernel void k(raytracing::acceleration_structure<> all [[buffer(0)]]) {} //!\n"},
    {"HostNameOfNoTemplate", "5.1.11",
     "kernel void k(device int* y) {}\ntemplate [[host_name(\"a\")]] kernel void k<int>(device "
     "int* y); //!\n"},
    {"HostNameTwice", "5.1.10",
     "template <typename T> kernel void k(device T* y) {}\n"
     "template [[host_name(\"a\")]] kernel void k<int>(device int* y);\n"
     "template [[host_name(\"a\")]] kernel void k<float>(device float* y); //!\n"},
    {"TooManyTemplateArguments", "5.1.11",
     "template <typename T> kernel void k(device T* y) {}\n"
     "template [[host_name(\"a\")]] kernel decltype(k<int, 3>) k<int, 3>; //!\n"},
    {"FunctionConstantWithValue", "5.8.1", "constant int n [[function_constant(0)]] = 3; //!\n"},
    {"FunctionConstantTwice", "5.8.1",
     "constant int n [[function_constant(0)]];\nconstant int m [[function_constant(0)]]; //!\n"},
    {"FunctionConstantIndex", "5.8.1", "constant int n [[function_constant(70000)]]; //!\n"},
};

// "(Metal specification 4.4)" of a message -> "4.4"; "" if it names no section.
std::string section_in(const std::string& message) {
  const std::string mark = "(Metal specification ";
  const size_t start = message.find(mark);
  if (start == std::string::npos) return "";
  return message.substr(start + mark.size(), message.find(')', start) - start - mark.size());
}

// The line of the first message, 0 if the text is accepted; the message in `why`.
uint32_t refused_at(const std::string& text, std::string& why,
                    const msl::TranslateOptions& options = {}) {
  std::vector<msl::Diagnostic> found;
  try {
    const msl::Unit unit = msl::parse("t.metal", text, {});
    found = msl::check_rules(unit);
    if (found.empty()) {
      CompileOptions compiling;
      compiling.syntax = true;
      found =
          compile(unit, msl::translate(unit, msl::Target::cpp, options), compiling, "test").found;
    }
  } catch (const base::Error& error) {
    why = error.what();
    const size_t place = why.find("t.metal:");
    return place == std::string::npos ? 0
                                      : static_cast<uint32_t>(std::stoul(why.substr(place + 8)));
  }
  if (found.empty()) return 0;
  why = found[0].message;
  if (!found[0].section.empty()) why += " (Metal specification " + found[0].section + ")";
  return found[0].at.line;
}

std::string whole(const Reject& one) {
  return std::string("#include <metal_stdlib>\nusing namespace metal;\n") + one.text;
}

class Rejects : public testing::TestWithParam<Reject> {};

TEST_P(Rejects, AtTheLineThatIsWrong) {
  const std::string text = whole(GetParam());
  const auto wrong =
      std::count(text.begin(), text.begin() + static_cast<long>(text.find("//!")), '\n');
  std::string why;
  EXPECT_EQ(refused_at(text, why), static_cast<uint32_t>(wrong + 1))
      << "Metal " << GetParam().section << " forbids it; message: " << why;
  if (!section_in(why).empty()) {
    EXPECT_EQ(section_in(why), GetParam().section) << why;
  }
}

INSTANTIATE_TEST_SUITE_P(Simt, Rejects, testing::ValuesIn(kRejects),
                         [](const auto& one) { return std::string(one.param.name); });

TEST(Accepts, TheSurroundingsOfTheRejectedLines) {
  const Reject plain = BODY("Plain", "", "y[i] = x[i] + c[0] + s[0] + float(h[i]) + float(b[i]);");
  std::string why;
  EXPECT_EQ(refused_at(whole(plain), why), 0u) << why;
}

TEST(Accepts, FunctionsOfBfloatOnlyWhereMlxAddsThem) {
  const std::string text = whole(BODY("Bfloat", "", "b[i] = exp(b[i]);"));
  std::string why;
  EXPECT_EQ(refused_at(text, why), 0u) << why;
  msl::TranslateOptions alone;
  alone.bfloat_functions = false;
  EXPECT_NE(refused_at(text, why, alone), 0u);
}

TEST(Accepts, WhatIsCloseToTheRules) {
  const Reject near[] = {
      BODY("A", "",
           "half v = x[i]; int n = h[i]; bfloat w = 3; float f = b[i]; y[i] = v + n + w + f;"),
      BODY("B", "",
           "float4 v = 0; v.xy = v.yx; v = max(v, 0.0f); y[i] = pow(x[i], 2) + v.r + v.a;"),
      BODY("C", "",
           "const constant float* p = c + 1; threadgroup float* q = &s[2]; y[i] = p[0] + q[0];"),
      BODY("E", "", "float t[4] = {1}; float* p = t; const float* q = p + 1; y[i] = p[0] + q[0];"),
      BODY("F", "", "threadgroup float zeros[4] = {0}; zeros[0] = 1; y[i] = zeros[0];"),
      BODY("D", "", "y[i] = i > 3 ? h[i] : x[i]; h[i] = i > 3 ? h[i] : 0; y[i] += fmax(x[i], 1);"),
  };
  for (const Reject& one : near) {
    std::string why;
    EXPECT_EQ(refused_at(whole(one), why), 0u) << one.text << why;
  }
}

}  // namespace
}  // namespace mlx_kd::devices::simt
