#include "mlx_kd/devices/simt/simt_compiler.h"

#include <algorithm>
#include <fstream>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/process.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/devices/host/cpu_info.h"
#include "mlx_kd/msl/parse/parser.h"
#include "mlx_kd/msl/prelude.h"
#include "mlx_kd/msl/rules/rules.h"
#include "mlx_kd/msl/translate/messages.h"

namespace mlx_kd::devices::simt {
namespace {

namespace fs = std::filesystem;

constexpr int kFormat = 2;  // part of every key: another one leaves all older objects behind

std::vector<std::string> object_flags() {
  std::vector<std::string> flags = common_flags();
  flags.insert(flags.end(), {"-O3", "-shared"});
  return flags;
}

// Whether barriers cut a kernel into loops.
bool has_loops(const msl::Translation& translation) {
  return std::any_of(translation.kernels.begin(), translation.kernels.end(),
                     [](const msl::Kernel& one) { return one.split; });
}

// One copy of the headers for all compiles of this process.
const fs::path& prelude_folder(const cpu::ObjectCache& cache) {
  static const cpu::Scratch folder(cache.folder());
  static const bool written = (msl::write_prelude(folder.folder()), true);
  (void)written;
  return folder.folder();
}

void write_text(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file)
    base::fail("devices", "cannot write " + path.string() +
                              ": free some space, or set MLX_KD_CACHE_DIR to another disk");
}

Artifact refused(const std::string& error) {
  Artifact artifact;
  artifact.error = error;
  return artifact;
}

}  // namespace

std::string SimtCompiler::key_of(const MetalText& source) const {
  const auto& machine = cpu::make_cpu_id();
  const base::Json decides = {{"format", kFormat},
                              {"executor", "simt"},
                              {"source", source.text},
                              {"defines", source.options.defines},
                              {"texts", source.options.texts},
                              {"prelude", msl::prelude_hash()},
                              {"options", object_flags()},
                              {"compiler", toolchain_.program},
                              {"version", toolchain_.version},
                              {"cpu", machine.name},
                              {"isa", machine.traits.isa}};
  return base::sha256_hex(base::canonical_json(decides));
}

Artifact SimtCompiler::compile(const MetalText& source, const std::string& about,
                               double timeout_s) const {
  const std::string key = key_of(source);
  const auto found = cache_.find(key);
  if (!found) return compile_fresh(source, about, key, timeout_s);
  Artifact artifact;
  artifact.ok = artifact.cached = true;
  artifact.path = found->path;
  artifact.compile_ms = found->compile_ms;
  return artifact;
}

Artifact SimtCompiler::compile_fresh(const MetalText& source, const std::string& about,
                                     const std::string& key, double timeout_s) const try {
  const int64_t start = base::steady_ns();
  const msl::Unit unit = msl::parse(source.file, source.text, source.options);
  msl::require_rules(unit);
  const msl::Translation translation = msl::translate(unit, msl::Target::cpp, {});
  const cpu::Scratch scratch(cache_.folder());
  write_text(scratch.source(), translation.text);
  std::vector<std::string> argv = {toolchain_.program};
  for (std::string& flag : object_flags()) argv.push_back(std::move(flag));
  argv.insert(argv.end(), {"-I", prelude_folder(cache_).string(), "-o", scratch.object().string(),
                           scratch.source().string()});
  base::ProcessResult made = base::run_process(argv, timeout_s);
  if (made.started && !made.timed_out && !made.ok() && has_loops(translation)) {
    argv.push_back("-DKD_NO_SPLIT=1");  // fibers are always right
    made = base::run_process(argv, timeout_s);
  }
  if (!made.started)
    base::fail("devices", toolchain_.program +
                              " cannot be started: install a C++ compiler, or name yours in "
                              "MLX_KD_CXX");
  if (made.timed_out) {
    Artifact late = refused("the compiler took longer than " + base::seconds_text(timeout_s));
    late.timed_out = true;
    return late;
  }
  if (!made.ok()) {
    const auto messages = msl::read_messages(made.output, *unit.sources, translation);
    return refused(messages.empty() ? "the compiler failed: " + made.output.substr(0, 500)
                                    : msl::describe(*unit.sources, messages.front()));
  }
  Artifact artifact;
  artifact.ok = true;
  artifact.compile_ms = 1e3 * base::seconds_since(start);
  artifact.path = cache_
                      .publish(scratch, key, artifact.compile_ms,
                               {{"op", about}, {"compiler", toolchain_.version}})
                      .path;
  return artifact;
} catch (const base::Error& error) {
  if (error.exit_code() != 2) throw;
  return refused(error.what());  // no valid Metal
}

Described describe(const MetalText& source, const std::string& kernel) {
  const msl::Unit unit = msl::parse(source.file, source.text, source.options);
  for (const msl::Kernel& one : msl::translate(unit, msl::Target::cpp, {}).kernels)
    if (one.name == kernel) return {one, unit.sources};
  base::fail("devices", source.file + " has no kernel '" + kernel + "'");
}

}  // namespace mlx_kd::devices::simt
