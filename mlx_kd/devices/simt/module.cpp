#include "mlx_kd/devices/simt/module.h"

#include <dlfcn.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/process.h"
#include "mlx_kd/msl/messages.h"
#include "mlx_kd/msl/prelude.h"

namespace mlx_kd::devices::simt {
namespace {

namespace fs = std::filesystem;

std::string make_folder() {
  std::string name = (fs::temp_directory_path() / "mlx-kd-XXXXXX").string();
  if (!mkdtemp(name.data()))
    base::fail("simt", "cannot create a folder like '" + name + "': " + std::strerror(errno));
  return name;
}

const std::string& compiler() {
  static const std::string found = [] {
    std::vector<std::string> names = {"g++", "clang++", "c++"};
    if (const char* given = std::getenv("CXX"); given && *given) names.insert(names.begin(), given);
    for (const std::string& name : names)
      if (base::run_process({name, "--version"}, 20).ok()) return name;
    base::fail("simt", "no C++ compiler: install g++ or clang++, or name one by CXX");
  }();
  return found;
}

std::vector<std::string> command(const std::string& folder, const CompileOptions& options) {
  std::vector<std::string> argv = {compiler()};
  for (std::string& flag : common_flags()) argv.push_back(std::move(flag));
  argv.insert(argv.end(), {"-I", folder, folder + "/kernel.cpp"});
  const auto add = [&](std::initializer_list<const char*> more) {
    argv.insert(argv.end(), more.begin(), more.end());
  };
  if (options.syntax)
    add({"-fsyntax-only"});
  else if (options.check)
    add({"-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=thread", "-c", "-o"});
  else if (options.debug)
    add({"-O0", "-g", "-shared", "-o"});
  else
    add({"-O3", "-shared", "-o"});
  if (!options.syntax) argv.push_back(folder + (options.check ? "/kernel.o" : "/kernel.so"));
  return argv;
}

base::ProcessResult run(const std::vector<std::string>& argv, double timeout_s) {
  base::ProcessResult result = base::run_process(argv, timeout_s);
  if (!result.started) base::fail("simt", "cannot start the compiler '" + argv[0] + "'");
  if (result.timed_out)
    base::fail("simt", "the compiler took more than " + std::to_string(timeout_s) + " s");
  return result;
}

}  // namespace

std::shared_ptr<Module> compile(const msl::Unit& unit, const msl::Translation& translation,
                                const CompileOptions& options,
                                std::vector<msl::Diagnostic>& found) {
  const std::shared_ptr<Module> module(new Module);
  module->folder_ = make_folder();
  msl::write_prelude(module->folder_);
  const std::string& folder = module->folder_;
  const bool split = !options.check && !options.debug && !options.syntax;
  const std::string head = std::string(options.check ? "#define KD_CHECK 1\n" : "") +
                           (split ? "" : "#define KD_NO_SPLIT 1\n");
  base::write_file_atomically(folder + "/kernel.cpp", head + translation.text, "simt");
  const base::ProcessResult made = run(command(folder, options), options.timeout_s);
  if (!made.ok()) {
    found = msl::read_messages(made.output, *unit.sources, translation);
    if (found.empty()) base::fail("simt", "the compiler failed: " + made.output.substr(0, 500));
    return nullptr;
  }
  if (options.syntax) return nullptr;
  if (options.check) {
    const base::ProcessResult linked =
        run({compiler(), "-shared", folder + "/kernel.o", "-o", folder + "/kernel.so", "-lm"},
            options.timeout_s);
    if (!linked.ok()) base::fail("simt", "linking failed: " + linked.output.substr(0, 500));
  }
  module->open(folder + "/kernel.so");
  return module;
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
  std::error_code ignored;
  if (!folder_.empty()) fs::remove_all(folder_, ignored);
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
