#include "mlx_kd/devices/cuda/compile/cuda_text.h"

#include <algorithm>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/msl/prelude.h"

namespace mlx_kd::devices::cuda {
namespace {

constexpr int kTextFormat = 2;  // part of every key: another one leaves all older cubins behind
constexpr size_t kSymbolDigits = 16;

// Kernels that state max_total_threads_per_threadgroup need no limit of registers.
std::vector<std::string> options_of(const msl::Translation& made, int sm, int64_t group_threads) {
  const bool all_state = std::all_of(made.kernels.begin(), made.kernels.end(),
                                     [](const auto& one) { return !one.most_threads.empty(); });
  return all_state ? nvrtc_options(sm) : nvrtc_options(sm, group_threads);
}

Artifact made_of(const cpu::CachedObject& object, bool cached) {
  Artifact artifact;
  artifact.ok = true;
  artifact.cached = cached;
  artifact.path = object.path;
  artifact.compile_ms = object.compile_ms;
  return artifact;
}

}  // namespace

std::string CudaText::symbol(const msl::Kernel& kernel) const {
  return kernel.symbol + "_" + key.substr(0, kSymbolDigits);
}

CudaText cuda_text(const TranslatedText& text, int sm, int64_t group_threads) {
  CudaText result;
  result.file = text.unit.sources->name(text.unit.file);
  result.options = options_of(text.made, sm, group_threads);
  result.key = base::sha256_hex(base::canonical_json({{"format", kTextFormat},
                                                      {"executor", "cuda"},
                                                      {"text", text.made.text},
                                                      {"prelude", msl::prelude_hash()},
                                                      {"options", result.options},
                                                      {"version", nvrtc_version()}}));
  for (const msl::Kernel& one : text.made.kernels)
    result.code += "#define " + one.symbol + " " + result.symbol(one) + "\n";
  result.code += text.made.text;
  return result;
}

Artifact cached_cubin(const cpu::ObjectCache& cache, const std::string& key,
                      const std::string& about, const std::function<Cubin()>& compile) {
  if (const auto found = cache.find(key)) return made_of(*found, true);
  const int64_t start = base::steady_ns();
  const Cubin cubin = compile();
  if (cubin.bytes.empty()) {
    Artifact refused;
    refused.error = cubin.error;
    return refused;
  }
  const cpu::Scratch scratch(cache.folder());
  base::write_file_atomically(scratch.object(), cubin.bytes, "devices");
  return made_of(cache.publish(scratch, key, 1e3 * base::seconds_since(start),
                               {{"op", about}, {"compiler", nvrtc_version()}}),
                 false);
}

Artifact compile_text(const CudaText& text, const cpu::ObjectCache& cache,
                      const std::string& about) {
  return cached_cubin(cache, text.key, about,
                      [&text] { return compile_cuda(text.file, text.code, text.options); });
}

}  // namespace mlx_kd::devices::cuda
