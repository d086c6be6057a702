#include "mlx_kd/devices/simt/program/simt_compiler.h"

#include <algorithm>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/process.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/devices/host/compiler.h"
#include "mlx_kd/devices/host/cpu_info.h"
#include "mlx_kd/devices/host/object_cache.h"
#include "mlx_kd/msl/prelude.h"
#include "mlx_kd/msl/translate/messages.h"

namespace mlx_kd::devices::simt {
namespace {

using Words = std::vector<std::string>;

constexpr size_t kMostOutput = 500;    // characters of the compiler's that are shown
constexpr size_t kMostText = 1 << 20;  // and that are read

const cpu::Toolchain& toolchain() {
  static const cpu::Toolchain found = cpu::find_toolchain();
  return found;
}

std::string key_of(const std::string& text, const CompileOptions& options) {
  const spec::DeviceId& machine = cpu::make_cpu_id();
  return base::sha256_hex(base::canonical_json({{"executor", "simt"},
                                                {"text", text},
                                                {"prelude", msl::prelude_hash()},
                                                {"options", flags_of(options)},
                                                {"compiler", toolchain().program},
                                                {"version", toolchain().version},
                                                {"cpu", machine.name},
                                                {"isa", machine.traits.isa}}));
}

// One run of the compiler over a scratch folder's source, and of the linker where checks are on:
// the object is linked without the sanitizer's runtime.
class Run {
 public:
  Run(const cpu::Scratch& scratch, const CompileOptions& options)
      : scratch_(scratch), options_(options) {}

  base::ProcessResult compile(bool split) const {
    Words argv = {toolchain().program};
    for (std::string& flag : flags_of(options_)) argv.push_back(std::move(flag));
    if (!split) argv.push_back("-DKD_NO_SPLIT=1");
    argv.insert(argv.end(), {"-I", scratch_.folder().string(), scratch_.source().string()});
    if (options_.syntax) return start(argv);
    const std::string part = (scratch_.folder() / "kernel.o").string();
    const std::string object = scratch_.object().string();
    const Words target = options_.check ? Words{"-c", "-o", part} : Words{"-shared", "-o", object};
    argv.insert(argv.end(), target.begin(), target.end());
    base::ProcessResult made = start(argv);
    if (!made.ok() || !options_.check) return made;
    return start({toolchain().program, "-shared", part, "-o", object, "-lm"});
  }

 private:
  base::ProcessResult start(const Words& argv) const {
    base::ProcessLimits limits;
    limits.waits_free = true;
    base::ProcessResult result =
        base::run_process(argv, options_.timeout_s, kMostText, nullptr, limits);
    if (!result.started)
      base::fail("devices", argv[0] +
                                " cannot be started: install a C++ compiler, or name yours in "
                                "MLX_KD_CXX");
    return result;
  }

  const cpu::Scratch& scratch_;
  const CompileOptions& options_;
};

Artifact refused(const std::string& error, bool timed_out = false) {
  Artifact artifact;
  artifact.error = error;
  artifact.timed_out = timed_out;
  return artifact;
}

Artifact made_of(const cpu::CachedObject& object, bool cached) {
  Artifact artifact;
  artifact.ok = true;
  artifact.path = object.path;
  artifact.cached = cached;
  artifact.compile_ms = object.compile_ms;
  return artifact;
}

// Fibers are always right: a kernel whose loops do not compile is one that was cut wrongly.
base::ProcessResult compile_into(const cpu::Scratch& scratch, const std::string& text,
                                 const CompileOptions& options) {
  msl::write_prelude(scratch.folder());
  base::write_file_atomically(scratch.source(), text, "devices");
  const Run run(scratch, options);
  const bool loops = !options.syntax && !options.check && !options.debug;
  base::ProcessResult made = run.compile(true);
  return made.ok() || made.timed_out || !loops ? made : run.compile(false);
}

}  // namespace

std::vector<std::string> flags_of(const CompileOptions& options) {
  Words flags = {"-std=c++20",
                 "-fPIC",
                 "-w",
                 "-march=native",
                 "-fno-strict-aliasing",
                 "-fno-math-errno",
                 "-fno-trapping-math",
                 "-fstack-clash-protection",
                 "-fsigned-char"};
  const auto add = [&](std::initializer_list<const char*> more) {
    flags.insert(flags.end(), more.begin(), more.end());
  };
  if (options.syntax)
    add({"-fsyntax-only"});
  else if (options.check)
    add({"-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=thread", "-DKD_CHECK=1"});
  else if (options.debug)
    add({"-O0", "-g"});
  else
    for (const std::string& flag : cpu::optimisation_flags()) flags.push_back(flag);
  if (!options.contraction) add({"-ffp-contract=off"});
  if (options.syntax || options.check || options.debug) add({"-DKD_NO_SPLIT=1"});
  return flags;
}

Compiled compile(const msl::Unit& unit, const msl::Translation& translation,
                 const CompileOptions& asked, const std::string& about) {
  CompileOptions options = asked;
  options.contraction = translation.contraction;
  const cpu::ObjectCache cache = cpu::ObjectCache::from_environment();
  const std::string key = options.syntax ? "" : key_of(translation.text, options);
  if (!options.syntax)
    if (const auto kept = cache.find(key)) return {made_of(*kept, true), {}};
  const int64_t start = base::steady_ns();
  const cpu::Scratch scratch(cache.folder());
  const base::ProcessResult made = compile_into(scratch, translation.text, options);
  if (made.timed_out)
    return {refused("the compiler took longer than " + base::seconds_text(options.timeout_s), true),
            {}};
  if (!made.ok()) {
    auto found = msl::read_messages(made.output, *unit.sources, translation);
    return {refused(found.empty() ? "the compiler failed: " + made.output.substr(0, kMostOutput)
                                  : msl::describe(*unit.sources, found.front())),
            std::move(found)};
  }
  if (options.syntax) return {made_of({}, false), {}};
  return {made_of(cache.publish(scratch, key, 1e3 * base::seconds_since(start),
                                {{"op", about}, {"compiler", toolchain().version}}),
                  false),
          {}};
}

Artifact compile_text(const MetalText& text, const std::string& about, double timeout_s) try {
  const TranslatedText translated = translate_text(text, msl::Target::cpp);
  CompileOptions options;
  options.timeout_s = timeout_s;
  return compile(translated.unit, translated.made, options, about).artifact;
} catch (const base::Error& error) {
  if (error.exit_code() != 2) throw;
  return refused(error.what());
}

}  // namespace mlx_kd::devices::simt
