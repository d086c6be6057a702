#include "mlx_kd/devices/cuda/cuda_compiler.h"

#include <chrono>
#include <fstream>
#include <future>
#include <thread>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/devices/cuda/cubin.h"
#include "mlx_kd/devices/cuda/cuda_source.h"
#include "mlx_kd/msl/parse/parser.h"
#include "mlx_kd/msl/prelude.h"

namespace mlx_kd::devices::cuda {
namespace {

constexpr int kFormat = 1;  // part of every key: another one leaves all older cubins behind
constexpr size_t kSymbolDigits = 16;
constexpr int64_t kMostGroupThreads = 1024;

// One cubin serves every launch of a candidate, up to Metal's largest threadgroup.
std::vector<std::string> options_of(const CudaKernel& kernel, int sm) {
  return kernel.kernel.most_threads.empty() ? nvrtc_options(sm, kMostGroupThreads)
                                            : nvrtc_options(sm);
}

Artifact refused(const std::string& error) {
  Artifact artifact;
  artifact.error = error;
  return artifact;
}

Artifact made(const cpu::CachedObject& object, bool cached) {
  Artifact artifact;
  artifact.ok = true;
  artifact.cached = cached;
  artifact.path = object.path;
  artifact.compile_ms = object.compile_ms;
  return artifact;
}

void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  file.close();
  if (!file)
    base::fail("devices", "cannot write " + path.string() +
                              ": free some space, or set MLX_KD_CACHE_DIR to another disk");
}

bool is_cuda(const spec::Candidate& candidate) {
  return candidate.language == "cuda";
}

Cubin cubin_of(const spec::Candidate& candidate, const std::string& key, int sm) {
  if (is_cuda(candidate)) return compile_source(candidate, source_options(candidate, sm));
  const CudaKernel kernel = translate_candidate(candidate, key);
  return compile_cuda(metal_file(candidate), kernel.text, options_of(kernel, sm));
}

Artifact compile_fresh(const spec::Candidate& candidate, const std::string& key, int sm,
                       const cpu::ObjectCache& cache) try {
  const int64_t start = base::steady_ns();
  const Cubin cubin = cubin_of(candidate, key, sm);
  if (cubin.bytes.empty()) return refused(cubin.error);
  const cpu::Scratch scratch(cache.folder());
  write_bytes(scratch.object(), cubin.bytes);
  return made(cache.publish(scratch, key, 1e3 * base::seconds_since(start),
                            {{"op", candidate.op_name}, {"compiler", nvrtc_version()}}),
              false);
} catch (const base::Error& error) {
  if (error.exit_code() != 2) throw;
  return refused(error.what());  // no valid Metal
}

}  // namespace

msl::TranslateOptions candidate_options() {
  msl::TranslateOptions options;
  options.numbers_by_value = true;
  options.buffers_apart = true;
  return options;
}

CudaKernel translate_candidate(const spec::Candidate& candidate, const std::string& key) {
  const MetalText source = metal_text(candidate);
  const msl::Unit unit = msl::parse(source.file, source.text, source.options);
  const msl::Translation translation = msl::translate(unit, msl::Target::cuda, candidate_options());
  for (const msl::Kernel& one : translation.kernels) {
    if (one.name != candidate.func_name) continue;
    const std::string symbol = one.symbol + "_" + key.substr(0, kSymbolDigits);
    return {
        one, unit.sources,
        "#define KD_WHOLE_LINES 1\n#define " + one.symbol + " " + symbol + "\n" + translation.text,
        symbol};
  }
  base::fail("devices", source.file + " has no kernel '" + candidate.func_name + "'");
}

std::string CudaCompiler::key_of(const spec::Candidate& candidate) const {
  if (is_cuda(candidate)) return source_key(candidate, source_options(candidate, sm_));
  const MetalText source = metal_text(candidate);
  const base::Json decides = {{"format", kFormat},
                              {"executor", "cuda"},
                              {"kernel", candidate.func_name},
                              {"source", source.text},
                              {"texts", source.options.texts},
                              {"defines", source.options.defines},
                              {"prelude", msl::prelude_hash()},
                              {"options", nvrtc_options(sm_, kMostGroupThreads)},
                              {"version", nvrtc_version()}};
  return base::sha256_hex(base::canonical_json(decides));
}

Artifact CudaCompiler::compile(const spec::Candidate& candidate, double timeout_s) const {
  const std::string key = key_of(candidate);
  if (const auto found = cache_.find(key)) return made(*found, true);
  std::packaged_task<Artifact()> task([candidate, key, sm = sm_, cache = cache_] {
    return compile_fresh(candidate, key, sm, cache);
  });
  std::future<Artifact> result = task.get_future();
  std::thread(std::move(task)).detach();
  if (result.wait_for(std::chrono::duration<double>(timeout_s)) == std::future_status::ready)
    return result.get();
  Artifact late = refused("the compiler took longer than " + base::seconds_text(timeout_s));
  late.timed_out = true;
  return late;
}

}  // namespace mlx_kd::devices::cuda
