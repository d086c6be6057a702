// Kernels that lie about integers, about arrays that they update in place, and about results that
// residuals judge: each is the operator's own kernel, of which one function is wrapped or one line
// is changed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "tests/evaluate/candidates.h"

namespace mlx_kd::evaluate {
namespace {

using spec::Dims;
using spec::Status;

struct Liar {
  const char *op, *name;
  std::string before, after;  // what it does around the kernel's own work
  Status status;
  const char* reason;  // part of it
};

// What is wrapped: of several stages the last, which writes the outputs.
const char* function_of(const std::string& op) {
  return op == "greedy_token" ? "mlx_kd_greedy_token_rows"
         : op == "kv_append"  ? "mlx_kd_kv_append"
         : op == "cholesky"   ? "mlx_kd_cholesky"
                              : "mlx_kd_qr";
}

std::vector<Dims> sizes_of(const std::string& op) {
  if (op == "greedy_token") return {{{"B", 9}, {"V", 75}}, {{"B", 3}, {"V", 300}}};
  if (op == "kv_append")
    return {{{"S", 16}, {"B", 2}, {"H", 2}, {"M", 2}, {"Dk", 8}, {"Dv", 24}, {"ragged", 1}}};
  if (op == "cholesky")
    return {{{"batch", 9}, {"n", 6}, {"upper", 0}}, {{"batch", 4}, {"n", 17}, {"upper", 0}}};
  return {{{"batch", 9}, {"m", 7}, {"n", 5}, {"mode", 0}}};
}

// `a` are the arguments, [begin, end) the rows or matrices of this call.
std::string wrapped(const std::string& source, const Liar& liar) {
  const std::string function = function_of(liar.op);
  return "#define " + function + " honest_work\n" + source + "\n#undef " + function + R"(
extern "C" int usleep(unsigned); extern "C" int pthread_detach(unsigned long);
extern "C" int pthread_create(unsigned long*, const void*, void* (*)(void*), void*);
[[maybe_unused]] static long calls;
[[maybe_unused]] static void* seen[64];
[[maybe_unused]] static unsigned char kept[1 << 16];
[[maybe_unused]] static void* later(void*) { usleep(300000); return nullptr; }
extern "C" void )" +
         function + "(const kd_arguments* a, long begin, long end) {\n" +
         "kd_arguments other = *a; (void)other; (void)calls;\n" + liar.before +
         "\nhonest_work(&other, begin, end);\n" + liar.after + "\n}\n";
}

// Tokens are whole numbers, which no bound forgives; log probabilities go with them.
std::vector<Liar> of_tokens() {
  const std::string arrays =
      "unsigned* const token = (unsigned*)a->outputs[0]; float* const logprob = "
      "(float*)a->outputs[1]; const long rows = a->dims[0], count = a->dims[KD_DIM_V]; "
      "const float* const x = (const float*)a->inputs[0]; "
      "(void)token, (void)logprob, (void)rows, (void)count, (void)x; ";
  const auto each = [&](const std::string& work) {
    return arrays + "for (long i = begin; i < end; ++i) { " + work + " }";
  };
  const char* const off = "the error of logsumexp";
  return {
      {"greedy_token", "NamesTheNextToken", "", each("token[i] += 1;"), Status::wrong, off},
      {"greedy_token", "NamesTheLastOfEqualTokens", "",
       each("for (long j = token[i]; j < count; ++j) if (x[i * count + j] == x[i * count + "
            "token[i]]) token[i] = j;"),
       Status::wrong, off},
      {"greedy_token", "NamesATokenThatThereIsNot", "", each("token[i] += 0x7fffffffu;"),
       Status::wrong, off},
      {"greedy_token", "IsRightForTheFirstRowOnly", "",
       each("if (i > 0 && token[i] > 0) token[i] -= 1;"), Status::wrong, off},
      {"greedy_token", "GivesAnotherTokensProbability", "", each("logprob[i] -= 0.25f;"),
       Status::wrong, off},
      {"greedy_token", "SwallowsNaN", "", each("if (logprob[i] != logprob[i]) logprob[i] = 0;"),
       Status::wrong, off},
      {"greedy_token", "LeavesATokenOut", arrays + "const unsigned last = token[end - 1];",
       "token[end - 1] = last;", Status::wrong, ""},
      {"greedy_token", "RepeatsThePreviousTokens", "",
       each("unsigned* const before = (unsigned*)kept; const unsigned now = token[i]; "
            "if (calls++ > 0) token[i] = before[i]; before[i] = now;"),
       Status::unstable, "differs between two runs"},
      {"greedy_token", "CountsOnFromTheLastCall", "", each("token[i] += calls++ / 40;"),
       Status::unstable, "differs between two runs"},
      {"greedy_token", "IsWrongOnceItIsTimed", "if (++calls > 300) return;", "", Status::wrong, ""},
      {"greedy_token", "WritesATokenPastTheLast", "", arrays + "token[rows] = 0;", Status::wrong,
       "outside the bounds of output 'token'"},
      {"greedy_token", "WritesToTheLogits", "((float*)a->inputs[0])[0] = 1;", "", Status::wrong,
       "wrote to an input"},
      {"greedy_token", "ReadsPastTheLogits",
       arrays + "volatile float far = x[rows * count]; (void)far;", "", Status::wrong,
       "read past the end"},
      {"greedy_token", "ReadsMemoryThatNobodyWrote",
       arrays + "static float fresh[4096]; other.scratch[1] = calls++ % 2 ? fresh : a->scratch[1];",
       "", Status::unstable, ""},
  };
}

// An array that is input and output: what is there already may be taken for work that was done.
std::vector<Liar> of_caches() {
  const std::string sizes =
      "const long s = a->dims[KD_DIM_S], m = a->dims[KD_DIM_M], heads = a->dims[KD_DIM_B] * "
      "a->dims[KD_DIM_H]; const int* const offset = (const int*)a->inputs[4]; "
      "int* const moved = (int*)kept; (void)s, (void)m, (void)heads, (void)offset, (void)moved; ";
  const auto with_offsets = [&](const std::string& of_b) {
    return sizes + "for (long b = 0; b < a->dims[KD_DIM_B]; ++b) moved[b] = " + of_b +
           "; other.inputs[4] = moved;";
  };
  return {
      {"kv_append", "WritesNothing", "return;", "", Status::wrong, "output 'keys_out'"},
      {"kv_append", "LeavesTheValuesOut", "other.outputs[1] = kept;", "", Status::wrong,
       "output 'values_out'"},
      {"kv_append", "WritesOneRowTooFar", with_offsets("offset[b] + (offset[b] < s - m)"), "",
       Status::wrong, "output 'keys_out'"},
      {"kv_append", "WritesWhereNothingFits",
       with_offsets("offset[b] < 0 ? 0 : offset[b] > s - m ? (int)(s - m) : offset[b]"), "",
       Status::wrong, "output 'keys_out'"},
      {"kv_append", "ChangesARowThatIsNotNew", "",
       sizes + "char* const k = (char*)a->outputs[0]; const int first = offset[0] > 0 ? 0 : s - 1; "
               "k[first * a->dims[KD_DIM_Dk] * 4] ^= 1;",
       Status::wrong, "output 'keys_out'"},
      {"kv_append", "IsIdleWhereItHasBeen",
       "for (void* one : seen) if (one == a->outputs[0]) return; "
       "seen[calls++ % 64] = a->outputs[0];",
       "", Status::wrong, "output"},
      {"kv_append", "IsWrongOnceItIsTimed", "if (++calls > 200) return;", "", Status::wrong, ""},
      {"kv_append", "ChangesTheNewKeys", "((float*)a->inputs[2])[0] = 1;", "", Status::wrong,
       "wrote to an input"},
      {"kv_append", "ChangesTheOffsets", "((int*)a->inputs[4])[0] = 0;", "", Status::wrong,
       "wrote to an input"},
      {"kv_append", "WritesPastTheCache", "",
       sizes + "((float*)a->outputs[1])[heads * s * a->dims[KD_DIM_Dv]] = 1;", Status::wrong,
       "outside the bounds of output 'values_out'"},
      {"kv_append", "ReadsPastTheOffsets",
       "volatile int far = ((const int*)a->inputs[4])[a->dims[KD_DIM_B]]; (void)far;", "",
       Status::wrong, "read past the end"},
      {"kv_append", "WritesAfterItReturned",
       "unsigned long id; pthread_create(&id, nullptr, later, nullptr); pthread_detach(id);", "",
       Status::wrong, "a thread"},
      {"kv_append", "WritesOtherBitsEachTime", "",
       sizes + "if (offset[0] >= 0 && offset[0] <= s - m) { char* const k = (char*)a->outputs[0]; "
               "k[offset[0] * a->dims[KD_DIM_Dk] * 4] ^= ++calls % 2; }",
       Status::unstable, ""},
  };
}

// Results that are judged by what they satisfy, and not compared with one that is known.
std::vector<Liar> of_factors() {
  const std::string factor =
      "const long n = a->dims[KD_DIM_n]; int* const info = (int*)a->outputs[1]; float* const l = "
      "(float*)a->outputs[0]; (void)info, (void)l, (void)n; ";
  const auto each = [&](const std::string& work) {
    return factor + "for (long m = begin; m < end; ++m) { float* const f = l + m * n * n; " + work +
           " (void)f; }";
  };
  const std::string q_and_r =
      "const long m = a->dims[KD_DIM_m], n = a->dims[KD_DIM_n], k = m < n ? m : n; for (long e = "
      "begin; e < end; ++e) { float* const q = (float*)a->outputs[0] + e * m * k; float* const r = "
      "(float*)a->outputs[1] + e * k * n; int* const info = (int*)a->outputs[2] + e; "
      "(void)q, (void)r, (void)info; ";
  const auto both = [&](const std::string& work) { return q_and_r + work + " }"; };
  const std::string shortened =
      "{ unsigned bits; __builtin_memcpy(&bits, &x, 4); bits &= 0xffff0000u; "
      "__builtin_memcpy(&x, &bits, 4); }";
  const char *const product = "|A - L L^T|", *const of_q = "|I - Q^T Q|";
  return {
      {"cholesky", "IsScaled", "", each("for (long i = 0; i < n * n; ++i) f[i] *= 1.001f;"),
       Status::wrong, product},
      {"cholesky", "TurnsTheSignsOfAColumn", "",
       each("for (long i = 0; i < n; ++i) f[i * n] = -f[i * n];"), Status::wrong,
       "that are not positive"},
      {"cholesky", "LeavesTheOtherTriangle", "", each("if (info[m] == 0) f[n - 1] = 1e-30f;"),
       Status::wrong, "the other triangle"},
      {"cholesky", "FactorsOneMatrixForAll", "",
       each("if (m > 0 && info[m] == 0 && info[0] == 0) for (long i = 0; i < n * n; ++i) f[i] = "
            "l[i];"),
       Status::wrong, product},
      {"cholesky", "HidesANaNBeforeTheLastMatrix", "",
       each("if (m == 0 && n > 1) f[n] = __builtin_nanf(\"\");"), Status::wrong, product},
      {"cholesky", "SaysThatAllHaveAFactor", "", each("info[m] = 0;"), Status::wrong, "wrong info"},
      {"cholesky", "SaysThatNoneHasAFactor", "",
       each("info[m] = 1; for (long i = 0; i < n * n; ++i) f[i] = __builtin_nanf(\"\");"),
       Status::wrong, product},
      {"cholesky", "SwallowsNaN", "",
       each("for (long i = 0; i < n * n; ++i) if (f[i] != f[i]) f[i] = 0;"), Status::wrong,
       "that are not NaN"},
      {"cholesky", "ComputesInBfloat16", "",
       each("for (long i = 0; i < n * n; ++i) { float& x = "
            "f[i]; " +
            shortened + " }"),
       Status::wrong, product},
      {"cholesky", "IsRightForSmallMatricesOnly", "", each("if (n > 10) f[n * n - 1] *= 2;"),
       Status::wrong, product},
      {"cholesky", "IsWrongOnceItIsTimed", "if (++calls > 300) return;", "", Status::wrong, ""},
      {"qr", "ScalesQAgainstR", "",
       both("for (long i = 0; i < m * k; ++i) q[i] *= 2; for (long i = 0; i < k * n; ++i) r[i] /= "
            "2;"),
       Status::wrong, of_q},
      {"qr", "TakesQForTheMatrix", "",
       both("if (k == n && *info == 0) { const float* const x = (const float*)a->inputs[0] + e * m "
            "* n; for (long i = 0; i < m * k; ++i) q[i] = x[i]; for (long i = 0; i < k * n; ++i) "
            "r[i] = i % (n + 1) == 0; }"),
       Status::wrong, of_q},
      {"qr", "LeavesWhatIsBelowTheDiagonal", "", both("r[n] = 1e-30f;"), Status::wrong,
       "below the diagonal"},
      {"qr", "HidesANaNBeforeTheLastMatrix", "", both("if (e == 0) q[0] = __builtin_nanf(\"\");"),
       Status::wrong, "|A - Q R|"},
      {"qr", "TurnsSignsEachTime", "",
       both(
           "if (++calls % 2) { for (long i = 0; i < m; ++i) q[i * k] = -q[i * k]; for (long j = 0; "
           "j < n; ++j) r[j] = -r[j]; }"),
       Status::unstable, "differs between two runs"},
      {"qr", "ComputesInBfloat16", "",
       both("for (long i = 0; i < m * k; ++i) { float& x = q[i]; " + shortened + " }"),
       Status::wrong, ""},
      {"qr", "SaysThatAllAreFinite", "", both("*info = 0;"), Status::wrong, "wrong info"},
  };
}

std::vector<Liar> all_liars() {
  std::vector<Liar> all = of_tokens();
  for (const auto& more : {of_caches(), of_factors()})
    all.insert(all.end(), more.begin(), more.end());
  return all;
}

// A kernel with its default knobs, which take matrices one by one.
spec::Candidate honest_candidate(const std::string& name, const std::string& language,
                                 const std::string& device_kind) {
  const spec::Op& op = kernels::find_op(name);
  const auto device = devices::open_device(device_kind);
  for (const spec::Variant& variant : op.variants) {
    if (variant.language != language) continue;
    const spec::Space space = variant.space(spec::Dtype::float32, device->id().traits);
    spec::Setting knobs = spec::default_setting(space);
    for (const auto& [knob, value] : {std::pair{"LANES", 0}, {"THREADS", 1}, {"SPLIT", 256}})
      if (language == "cpp" && knobs.has(knob)) knobs.set(knob, value);
    return spec::make_candidate(op, variant, spec::Dtype::float32, knobs, space,
                                spec::complete(op, sizes_of(name).front()));
  }
  ADD_FAILURE() << name << " has no kernel in " << language;
  return {};
}

struct Lie {
  std::string name;
  spec::Candidate kernel;
  Status status;
  std::string reason;
};

// Proves an honest kernel, then the liars, then the honest one again, all in one run.
void expect_found_out(const std::string& op, const std::string& device,
                      const spec::Candidate& honest, const std::vector<Lie>& lies) {
  EvaluateOptions options;
  options.worker_program = MLX_KD_PROGRAM;
  options.prove_only = device == "simt";
  std::vector<Dims> sizes;
  for (const Dims& size : sizes_of(op)) sizes.push_back(spec::complete(kernels::find_op(op), size));
  const auto evaluator =
      make_evaluator({&kernels::find_op(op), device, spec::Dtype::float32, sizes}, options);
  std::vector<spec::Candidate> tried = {honest};
  for (const Lie& lie : lies) tried.push_back(lie.kernel);
  tried.push_back(honest);
  const auto found = verdicts(*evaluator, tried);
  ASSERT_EQ(found.size(), tried.size());
  EXPECT_EQ(name_of(found.front().status), "benchmarked") << found.front().reason;
  for (size_t i = 0; i < lies.size(); ++i) {
    const spec::Verdict& verdict = found[i + 1];
    SCOPED_TRACE(lies[i].name);
    EXPECT_EQ(name_of(verdict.status), name_of(lies[i].status)) << verdict.reason;
    EXPECT_NE(verdict.reason.find(lies[i].reason), std::string::npos) << verdict.reason;
    EXPECT_TRUE(verdict.sizes.empty());
  }
  EXPECT_EQ(name_of(found.back().status), "benchmarked") << found.back().reason;
}

// The others run with MLX_KD_LONG.
bool is_quick(const std::string& name) {
  static const std::set<std::string> quick = {"ComputesInBfloat16",
                                              "HidesANaNBeforeTheLastMatrix",
                                              "IsIdleWhereItHasBeen",
                                              "LeavesATokenOut",
                                              "NamesTheLastOfEqualTokens",
                                              "RacesForAToken",
                                              "ScalesQAgainstR",
                                              "SaysThatAllHaveAFactor",
                                              "TurnsSignsEachTime",
                                              "WritesATokenPastTheLast",
                                              "WritesNothing",
                                              "WritesOneRowTooFar"};
  return std::getenv("MLX_KD_LONG") || quick.count(name) > 0;
}

// What lies about one operator, in one run.
template <class AnyLiar, class LieOf>
std::vector<Lie> lies_about(const std::string& op, const std::vector<AnyLiar>& liars,
                            const LieOf& kernel_of) {
  std::vector<Lie> lies;
  for (const AnyLiar& liar : liars)
    if (liar.op == op && is_quick(liar.name))
      lies.push_back({liar.name, kernel_of(liar), liar.status, liar.reason});
  return lies;
}

const auto kOpName = [](const auto& each) { return std::string(each.param); };

class LyingOperators : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(adversaries_of_operators, LyingOperators,
                         testing::Values("greedy_token", "kv_append", "cholesky", "qr"), kOpName);

TEST_P(LyingOperators, AreFoundOutAndCostOnlyThemselves) {
  const spec::Candidate honest = honest_candidate(GetParam(), "cpp", "cpu");
  const auto lies = lies_about(GetParam(), all_liars(), [&](const Liar& liar) {
    spec::Candidate kernel = honest;
    kernel.source = wrapped(honest.source, liar);
    return kernel;
  });
  ASSERT_GE(lies.size(), 3u);
  expect_found_out(GetParam(), "cpu", honest, lies);
}

struct MetalLiar {
  const char *op, *name;
  std::string right, wrong;  // of the kernel's text
  Status status;
  const char* reason;
};

std::vector<MetalLiar> metal_liars() {
  const std::string token = "token[row] = has_token ? first : 0u;";
  const std::string first = "threadgroup uint first_tokens[SIMDS];";
  const std::string barrier =
      "if (thread_index_in_simdgroup == 0) maxima[simdgroup_index_in_threadgroup] = most;\n  "
      "threadgroup_barrier(mem_flags::mem_threadgroup);";
  const std::string info = "if (index == 0) info[threadgroup_position_in_grid.x] = found;";
  const std::string total = "const uint total = ";
  return {
      {"greedy_token", "NamesTheNextToken", token, "token[row] = first + 1;", Status::wrong,
       "the error of logsumexp"},
      {"greedy_token", "LeavesItsTokensOut", token, "", Status::wrong, ""},
      {"greedy_token", "WritesATokenPastTheLast", token, token + " token[row + 1] = 0u;",
       Status::launch_error, "no buffer of the kernel"},
      {"greedy_token", "RacesForAToken", first,
       first + " threadgroup uint trace[1]; trace[0] = thread_index_in_threadgroup;", Status::wrong,
       "race"},
      {"greedy_token", "ReadsMemoryThatNobodyWrote", first,
       first + " threadgroup float fresh[1]; if (isinf(fresh[0])) return;", Status::wrong, ""},
      {"greedy_token", "LeavesABarrierOut", barrier,
       "if (thread_index_in_simdgroup == 0) maxima[simdgroup_index_in_threadgroup] = most;",
       Status::wrong, ""},
      {"greedy_token", "LosesThreads", first,
       first + " if (thread_index_in_threadgroup > 100) return;", Status::wrong, ""},
      {"greedy_token", "IsNoMetal", token, "std::vector<int> tokens;", Status::compile_error, ""},
      {"kv_append", "WritesNothing", total, "const uint total = 0u * ", Status::wrong,
       "output 'keys_out'"},
      {"cholesky", "SaysThatAllHaveAFactor", info,
       "if (index == 0) info[threadgroup_position_in_grid.x] = 0;", Status::wrong, "wrong info"},
      {"cholesky", "IsScaled", "T(w[i * n + j])", "T(1.001f * w[i * n + j])", Status::wrong,
       "|A - L L^T|"},
      {"cholesky", "SwallowsNaN", "found != 0 ? T(NAN)", "found != 0 ? T(0.0f)", Status::wrong,
       "that are not NaN"},
  };
}

class LyingMetal : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(adversaries_in_metal, LyingMetal,
                         testing::Values("greedy_token", "kv_append", "cholesky"), kOpName);

TEST_P(LyingMetal, IsFoundOutAndCostsOnlyItself) {
  const spec::Candidate honest = honest_candidate(GetParam(), "metal", "simt");
  const auto lies = lies_about(GetParam(), metal_liars(), [&](const MetalLiar& liar) {
    spec::Candidate kernel = honest;
    const size_t at = honest.source.find(liar.right);
    EXPECT_NE(at, std::string::npos) << liar.right;
    if (at != std::string::npos) kernel.source.replace(at, liar.right.size(), liar.wrong);
    return kernel;
  });
  ASSERT_GE(lies.size(), 1u);
  expect_found_out(GetParam(), "simt", honest, lies);
}

}  // namespace
}  // namespace mlx_kd::evaluate
