#include "mlx_kd/devices/simt/module.h"

#include <dlfcn.h>

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

const cpu::Toolchain& toolchain() {
  static const cpu::Toolchain found = cpu::find_toolchain();
  return found;
}

// The options of one way of compiling, without files.
std::vector<std::string> flags_of(const CompileOptions& options) {
  std::vector<std::string> flags = common_flags();
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
    add({"-O3"});
  if (options.syntax || options.check || options.debug) add({"-DKD_NO_SPLIT=1"});
  return flags;
}

base::ProcessResult run(const std::vector<std::string>& argv, double timeout_s) {
  base::ProcessResult result = base::run_process(argv, timeout_s);
  if (!result.started) base::fail("simt", "cannot start the compiler '" + argv[0] + "'");
  if (result.timed_out)
    base::fail("simt", "the compiler took longer than " + base::seconds_text(timeout_s));
  return result;
}

// Compiles scratch.source(); for checking the object is linked without the sanitizer's runtime.
base::ProcessResult compile_file(const cpu::Scratch& scratch, const CompileOptions& options,
                                 bool split) {
  std::vector<std::string> argv = {toolchain().program};
  for (std::string& flag : flags_of(options)) argv.push_back(std::move(flag));
  if (!split) argv.push_back("-DKD_NO_SPLIT=1");
  argv.insert(argv.end(), {"-I", scratch.folder().string(), scratch.source().string()});
  if (options.syntax) return run(argv, options.timeout_s);
  const std::string part = (scratch.folder() / "kernel.o").string();
  const std::string object = scratch.object().string();
  if (options.check)
    argv.insert(argv.end(), {"-c", "-o", part});
  else
    argv.insert(argv.end(), {"-shared", "-o", object});
  base::ProcessResult made = run(argv, options.timeout_s);
  if (!made.ok() || !options.check) return made;
  return run({toolchain().program, "-shared", part, "-o", object, "-lm"}, options.timeout_s);
}

std::string key_of(const std::string& text, const CompileOptions& options) {
  const auto machine = cpu::make_cpu_id();
  return base::sha256_hex(base::canonical_json({{"executor", "simt text"},
                                                {"text", text},
                                                {"prelude", msl::prelude_hash()},
                                                {"options", flags_of(options)},
                                                {"compiler", toolchain().program},
                                                {"version", toolchain().version},
                                                {"cpu", machine.name},
                                                {"isa", machine.traits.isa}}));
}

// False, with what is wrong in `found`, if the compiler refuses the text.
bool compile_into(const cpu::Scratch& scratch, const msl::Unit& unit,
                  const msl::Translation& translation, const CompileOptions& options,
                  std::vector<msl::Diagnostic>& found) {
  msl::write_prelude(scratch.folder());
  base::write_file_atomically(scratch.source(), translation.text, "simt");
  base::ProcessResult made = compile_file(scratch, options, true);
  // Fibers are always right: a kernel whose loops do not compile is one that was cut wrongly.
  const bool loops = !options.syntax && !options.check && !options.debug;
  if (!made.ok() && loops) made = compile_file(scratch, options, false);
  if (made.ok()) return true;
  found = msl::read_messages(made.output, *unit.sources, translation);
  if (found.empty()) base::fail("simt", "the compiler failed: " + made.output.substr(0, 500));
  return false;
}

}  // namespace

std::shared_ptr<Module> compile(const msl::Unit& unit, const msl::Translation& translation,
                                const CompileOptions& options,
                                std::vector<msl::Diagnostic>& found) {
  const cpu::ObjectCache cache = cpu::ObjectCache::from_environment();
  const int64_t start = base::steady_ns();
  const std::string key = options.syntax ? "" : key_of(translation.text, options);
  if (!options.syntax)
    if (const auto kept = cache.find(key)) return Module::load(kept->path.string());
  const cpu::Scratch scratch(cache.folder());
  if (!compile_into(scratch, unit, translation, options, found) || options.syntax) return nullptr;
  const cpu::CachedObject made =
      cache.publish(scratch, key, 1e3 * base::seconds_since(start),
                    {{"op", unit.sources->name(unit.file)}, {"compiler", toolchain().version}});
  return Module::load(made.path.string());
}

std::vector<std::string> common_flags() {
  return {"-std=c++20",
          "-fPIC",
          "-w",
          "-march=native",
          "-fno-strict-aliasing",
          "-fno-math-errno",
          "-fno-trapping-math",
          "-fstack-clash-protection",
          "-fsigned-char"};
}

std::shared_ptr<Module> Module::load(const std::string& object) {
  const std::shared_ptr<Module> module(new Module);
  module->open(object);
  return module;
}

void Module::open(const std::string& object) {
  object_ = object;
  handle_ = dlopen(object.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle_) base::fail("simt", std::string("cannot load the kernel: ") + dlerror());
  auto* bound = static_cast<const kd_runtime**>(dlsym(handle_, "kd_bound"));
  if (!bound) base::fail("simt", "the compiled kernel has no runtime slot");
  *bound = runtime();
}

Module::~Module() {
  if (handle_) dlclose(handle_);
}

Entry Module::entry(const msl::Kernel& kernel) const {
  Entry found;
  found.thread =
      reinterpret_cast<decltype(found.thread)>(dlsym(handle_, (kernel.symbol + "_thread").c_str()));
  found.group =
      reinterpret_cast<decltype(found.group)>(dlsym(handle_, (kernel.symbol + "_group").c_str()));
  if (!found.thread) base::fail("simt", "the compiled text has no kernel '" + kernel.name + "'");
  return found;
}

std::string Module::line_of(const void* code) const {
  Dl_info info;
  if (!dladdr(code, &info)) return "";
  const auto offset = static_cast<const char*>(code) - static_cast<const char*>(info.dli_fbase) - 1;
  char text[32];
  std::snprintf(text, sizeof text, "0x%tx", offset);
  const base::ProcessResult result =
      base::run_process({"addr2line", "-i", "-e", object_, text}, 20);
  return result.ok() ? result.output : "";
}

}  // namespace mlx_kd::devices::simt
