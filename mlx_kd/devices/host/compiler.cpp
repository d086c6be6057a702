#include "mlx_kd/devices/host/compiler.h"

#include <unistd.h>

#include <fstream>
#include <sstream>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/process.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/devices/host/cpu_info.h"
#include "mlx_kd/devices/host/environment.h"
#include "mlx_kd/devices/kernel_arguments.h"

namespace mlx_kd::devices::cpu {
namespace {

constexpr size_t kMostOutput = 1 << 20;
// Our kernels need less than a tenth of either; a source without end gets no more.
constexpr base::ProcessLimits kLimits{int64_t(6) << 30, int64_t(256) << 20, true};

constexpr int kFormat = 1;  // part of every key: another one leaves all older objects behind

// The file that PATH finds for a program; the name itself if it finds none.
std::string path_of(const std::string& program) {
  if (program.find('/') != std::string::npos) return program;
  std::istringstream folders(env_text("PATH"));
  for (std::string folder; std::getline(folders, folder, ':');) {
    const fs::path candidate = fs::path(folder) / program;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate.string();
  }
  return program;
}

std::optional<Toolchain> try_program(const std::string& program) {
  const std::string path = path_of(program);
  const base::ProcessResult result = base::run_process({path, "--version"}, 20);
  if (!result.ok()) return std::nullopt;
  return Toolchain{path, result.output.substr(0, result.output.find('\n'))};
}

std::string architecture_flag() {
#if defined(__aarch64__)
  const std::string native = "-mcpu=native";
#else
  const std::string native = "-march=native";
#endif
  const std::string named = env_text("MLX_KD_MARCH");
  return named.empty() || named == "native" ? native : "-march=" + named;
}

// KD_DTYPE and every source knob; the indices of kd_arguments for sources that take one. A launch
// knob is in launch_params and never in an object.
std::vector<std::string> macros_of(const spec::Candidate& candidate) {
  std::vector<std::string> macros;
  const std::string kind = spec::launch_kind_of(candidate);
  if (spec::abi_of(candidate.language, kind) == spec::Abi::arguments) {
    for (const std::string& macro : argument_macros(candidate)) macros.push_back("-D" + macro);
    return macros;
  }
  macros.push_back("-DKD_DTYPE=" + std::to_string(static_cast<int>(candidate.dtype)));
  for (const auto& [name, value] : candidate.knobs.items())
    if (!candidate.launch_params.contains(name))
      macros.push_back("-D" + name + "=" + std::to_string(value));
  return macros;
}

// "kernel.cpp:3:9: error: 'x' was not declared in this scope": the first line that says error, else
// the first line at all.
std::string first_error(const base::ProcessResult& result, const fs::path& folder) {
  std::istringstream lines(result.output);
  std::string first, found;
  for (std::string line; found.empty() && std::getline(lines, line);) {
    if (first.empty()) first = line;
    if (line.find("error") != std::string::npos) found = line;
  }
  if (found.empty()) found = first;
  if (found.empty() && result.signal) found = "ended by signal " + std::to_string(result.signal);
  if (found.empty()) found = "exit status " + std::to_string(result.exit_code);
  const std::string prefix = folder.string() + "/";
  if (const size_t at = found.find(prefix); at != std::string::npos) found.erase(at, prefix.size());
  return found;
}

void write_source(const fs::path& path, const std::string& source) {
  std::ofstream file(path, std::ios::binary);
  file << source;
  file.close();
  if (!file)
    base::fail("devices", "cannot write " + path.string() +
                              ": free some space, or set MLX_KD_CACHE_DIR to another disk");
}

}  // namespace

Toolchain find_toolchain() {
  const std::string own = env_text("MLX_KD_CXX");
  if (!own.empty()) {
    if (const auto found = try_program(own)) return *found;
    base::misuse("devices", "MLX_KD_CXX is '" + own +
                                "', which does not start: name a C++ compiler, or unset it");
  }
  for (const std::string& program :
       {env_text("CXX"), std::string("g++"), std::string("clang++"), std::string("c++")})
    if (!program.empty())
      if (const auto found = try_program(program)) return *found;
  base::fail(
      "devices",
      "there is no C++ compiler (g++, clang++, c++): install one (Debian, Ubuntu: apt install "
      "g++; macOS: xcode-select --install), or name yours in MLX_KD_CXX");
}

std::vector<std::string> optimisation_flags() {
  const std::string level = env_text("MLX_KD_KERNEL_OPT", "3");
  if (level != "1" && level != "2" && level != "3")
    base::misuse("devices", "MLX_KD_KERNEL_OPT is '" + level + "': give 1, 2 or 3, or unset it");
  if (level == "1") return {"-O1", "-fexpensive-optimizations"};  // it fuses products and sums
  return {"-O" + level};
}

std::vector<std::string> kernel_flags() {
  std::vector<std::string> flags = optimisation_flags();
  flags.insert(flags.end(),
               {"-std=c++20", architecture_flag(), "-ffp-contract=fast", "-fno-math-errno",
                "-fno-trapping-math", "-fno-exceptions", "-fno-rtti", "-fno-semantic-interposition",
                "-fPIC", "-shared", "-nostdlib", "-pipe", "-w"});
#ifdef __APPLE__
  flags.insert(flags.end(), {"-undefined", "dynamic_lookup"});
#endif
  return flags;
}

std::string Compiler::key_of(const std::string& source,
                             const std::vector<std::string>& options) const {
  const auto& machine = make_cpu_id();
  const base::Json decides = {{"format", kFormat},
                              {"source", source},
                              {"options", options},
                              {"compiler", toolchain_.program},
                              {"version", toolchain_.version},
                              {"cpu", machine.name},
                              {"isa", machine.traits.isa}};
  return base::sha256_hex(base::canonical_json(decides));
}

Artifact Compiler::compile(const spec::Candidate& candidate, double timeout_s) const {
  std::vector<std::string> options = kernel_flags();
  for (std::string& macro : macros_of(candidate)) options.push_back(std::move(macro));
  const std::string key = key_of(candidate.source, options);
  const auto found = cache_.find(key);
  if (!found) return compile_fresh(candidate, options, key, timeout_s);
  Artifact artifact;
  artifact.ok = artifact.cached = true;
  artifact.path = found->path;
  artifact.compile_ms = found->compile_ms;
  return artifact;
}

Artifact Compiler::compile_fresh(const spec::Candidate& candidate,
                                 const std::vector<std::string>& options, const std::string& key,
                                 double timeout_s) const {
  const Scratch scratch(cache_.folder());
  write_source(scratch.source(), candidate.source);
  std::vector<std::string> argv = {toolchain_.program};
  argv.insert(argv.end(), options.begin(), options.end());
  argv.insert(argv.end(), {"-o", scratch.object().string(), scratch.source().string()});
#ifdef __linux__
  argv.push_back("-lgcc");  // conversions that the instruction set lacks
#endif
  const int64_t start = base::steady_ns();
  const base::ProcessResult result =
      base::run_process(argv, timeout_s, kMostOutput, nullptr, kLimits);
  Artifact artifact;
  artifact.compile_ms = 1e3 * base::seconds_since(start);
  if (!result.started)
    base::fail("devices", toolchain_.program +
                              " cannot be started: install a C++ compiler, or "
                              "name yours in MLX_KD_CXX");
  artifact.timed_out = result.timed_out;
  if (result.timed_out) {
    artifact.error = "the compiler took longer than " + base::seconds_text(timeout_s);
  } else if (!result.ok()) {
    artifact.error = first_error(result, scratch.folder());
  } else {
    const base::Json about = {{"op", candidate.op_name}, {"compiler", toolchain_.version}};
    const auto object = cache_.publish(scratch, key, artifact.compile_ms, about);
    artifact.ok = true;
    artifact.path = object.path;
  }
  return artifact;
}

}  // namespace mlx_kd::devices::cpu
