#include "mlx_kd/msl/text/preprocess.h"

#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"

namespace mlx_kd::msl {
namespace {

std::string run(const std::string& text, const PreprocessOptions& options = {}) {
  SourceSet sources;
  const uint32_t file = sources.add("t.metal", text);
  std::string all;
  for (const Token& token : preprocess(sources, file, options))
    all += std::string(token.text) + " ";
  return all;
}

std::string preprocess_error(const std::string& text) {
  try {
    run(text);
  } catch (const base::Error& error) {
    return error.what();
  }
  return "";
}

TEST(Preprocess, ExpandsMacrosAsCDoes) {
  EXPECT_EQ(run("#define A 1\n#define F(x, y) x + A * y\nF(2, (3, 4))"), "2 + 1 * ( 3 , 4 ) ");
  EXPECT_EQ(run("#define CAT(a, b) a##b\n#define S(x) #x\nCAT(ab, 12) S(a + \"b\")"),
            "ab12 \"a + \\\"b\\\"\" ");
  EXPECT_EQ(run("#define V(f, ...) f(__VA_ARGS__)\nV(g, 1, 2) V(h)"), "g ( 1 , 2 ) h ( ) ");
  EXPECT_EQ(run("#define A A B\n#define B A\nA"), "A A ");
  EXPECT_EQ(run("#define F(x) x\nF (1) F\n"), "1 F ");
  EXPECT_EQ(run("#define F(x) G(x)\n#define G(x) F(x)\nF(1)"), "F ( 1 ) ");
  EXPECT_EQ(run("#define X 1\n#undef X\nX"), "X ");
}

TEST(Preprocess, TakesTheBranchesThatHold) {
  EXPECT_EQ(run("#if 0\na\n#elif 2 > 1 && defined(__METAL__)\nb\n#else\nc\n#endif"), "b ");
  EXPECT_EQ(run("#ifdef X\na\n#else\nb\n#endif\n#ifndef X\nc\n#endif"), "b c ");
  EXPECT_EQ(run("#if 0\n#if 1\na\n#else\nb\n#endif\n#else\nc\n#endif"), "c ");
  EXPECT_EQ(run("#if (1 << 3) == 8 ? 1 : 0\na\n#endif"), "a ");
  EXPECT_EQ(run("N", {{}, {{"N", "32"}}, {}}), "32 ");
}

TEST(Preprocess, IncludesTextsAndDropsMetalsOwn) {
  PreprocessOptions options;
  options.texts["a.h"] = "int a;\n";
  EXPECT_EQ(run("#include <metal_stdlib>\n#include \"a.h\"\nint b;", options), "int a ; int b ; ");
}

TEST(Preprocess, KeepsUnrolling) {
  EXPECT_EQ(run("#pragma unroll(4)\nfor"), "unroll(4) for ");
  EXPECT_EQ(run("#pragma mark here\nfor"), "for ");
  EXPECT_EQ(run("_Pragma(\"clang loop unroll(full)\") for"), "clang loop unroll(full) for ");
}

TEST(Preprocess, NamesThePlaceOfWhatIsWrong) {
  EXPECT_NE(preprocess_error("\n#include \"gone.h\"").find("t.metal:2:10: the include 'gone.h'"),
            std::string::npos);
  EXPECT_NE(preprocess_error("#if 1\nx").find("t.metal:1:1: this condition has no end"),
            std::string::npos);
  EXPECT_NE(preprocess_error("#endif").find("t.metal:1:1: #endif without #if"), std::string::npos);
  EXPECT_NE(preprocess_error("#else").find("without #if"), std::string::npos);
  EXPECT_NE(preprocess_error("#if 1 +\n#endif").find("t.metal:1:1: this is not a condition"),
            std::string::npos);
  EXPECT_NE(preprocess_error("#if 1 / 0\n#endif").find("not a condition"), std::string::npos);
  EXPECT_NE(preprocess_error("#foo").find("'#foo' is not a directive"), std::string::npos);
  EXPECT_NE(preprocess_error("#error no luck").find("no luck"), std::string::npos);
  EXPECT_NE(
      preprocess_error("#define F(x) x\n F(1, 2)").find("t.metal:2:2: macro 'F' takes 1 arguments"),
      std::string::npos);
  EXPECT_NE(preprocess_error("#define F(x) x\nF(1").find("have no end"), std::string::npos);
  EXPECT_NE(preprocess_error("#define C(a,b) a##b\nC(+,1x)").find("is not a token"),
            std::string::npos);
}

TEST(Preprocess, EndsOnTextsThatGrowWithoutBound) {
  std::string bomb = "#define M0 x x x x x x x x x x\n";
  for (int i = 1; i < 12; ++i) {
    bomb += "#define M" + std::to_string(i);
    for (int k = 0; k < 10; ++k) bomb += " M" + std::to_string(i - 1);
    bomb += "\n";
  }
  EXPECT_NE(preprocess_error(bomb + "M11").find("4 million tokens"), std::string::npos);
  EXPECT_NE(
      preprocess_error("#if " + std::string(100000, '(') + "\n#endif").find("not a condition"),
      std::string::npos);
  EXPECT_NE(
      preprocess_error("#if " + std::string(100000, '!') + "1\n#endif").find("not a condition"),
      std::string::npos);
  std::string nested = "1";
  for (int i = 0; i < 300; ++i) nested = "F(" + nested + ")";
  EXPECT_NE(preprocess_error("#define F(x) x\n" + nested).find("nested deeper"), std::string::npos);
}

}  // namespace
}  // namespace mlx_kd::msl
