#include "mlx_kd/devices/cuda/compile/cubin.h"

#include <memory>
#include <regex>
#include <sstream>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cuda/driver/driver_api.h"

namespace mlx_kd::devices::cuda {
namespace {

void check_nvrtc(Result result, const char* doing) {
  if (result != 0)
    base::fail("devices",
               std::string("NVRTC: ") + doing + " failed: " + nvrtc().error_string(result));
}

class Compilation {
 public:
  Compilation(const std::string& name, const std::string& text, const Headers& headers) {
    std::vector<const char*> texts, names;
    for (const auto& [header, content] : headers) {
      names.push_back(header.c_str());
      texts.push_back(content.c_str());
    }
    check_nvrtc(nvrtc().create(&program_, text.c_str(), name.c_str(),
                               static_cast<int>(names.size()), texts.data(), names.data()),
                "reading a text");
  }
  Compilation(const Compilation&) = delete;
  Compilation& operator=(const Compilation&) = delete;
  ~Compilation() { nvrtc().destroy(&program_); }

  bool run(const std::vector<std::string>& options) {
    std::vector<const char*> words;
    for (const std::string& option : options) words.push_back(option.c_str());
    return nvrtc().compile(program_, static_cast<int>(words.size()), words.data()) == 0;
  }
  std::string code() const {
    size_t size = 0;
    check_nvrtc(nvrtc().cubin_size(program_, &size), "asking for machine code");
    std::string bytes(size, '\0');
    check_nvrtc(nvrtc().cubin(program_, bytes.data()), "asking for machine code");
    return bytes;
  }
  std::string log() const {
    size_t size = 0;
    check_nvrtc(nvrtc().log_size(program_, &size), "asking for its messages");
    std::string text(size, '\0');
    check_nvrtc(nvrtc().log(program_, text.data()), "asking for its messages");
    return text.substr(0, text.find('\0'));
  }

 private:
  cuda::Program program_ = nullptr;
};

// The first error. One inside the prelude is placed where the Metal text used it, which NVRTC says
// in a line of its own: "... at line 12 of k.metal".
std::string first_error(const std::string& log) {
  static const std::regex error(R"(^(.*)\((\d+)\): (?:catastrophic )?error[^:]*: (.*)$)");
  static const std::regex used(R"(at line (\d+) of ([^\s]+))");
  std::istringstream stream(log);
  std::string line, place, message;
  while (std::getline(stream, line)) {
    std::smatch found;
    if (message.empty() && std::regex_match(line, found, error)) {
      place = found.str(1) + ":" + found.str(2);
      message = found.str(3);
      if (!msl::prelude().count(found.str(1))) break;
    } else if (!message.empty() && std::regex_search(line, found, used) &&
               !msl::prelude().count(found.str(2))) {
      place = found.str(2) + ":" + found.str(1);
      break;
    }
  }
  return message.empty() ? "the compiler failed: " + log.substr(0, 500) : place + ": " + message;
}

}  // namespace

int register_limit(int64_t group_threads) {
  if (group_threads <= 256) return 0;
  return group_threads <= 512 ? 128 : 64;
}

std::vector<std::string> nvrtc_options(int sm, int64_t group_threads) {
  std::vector<std::string> options = {"--gpu-architecture=sm_" + std::to_string(sm), "--std=c++20",
                                      "-w"};
  if (const int most = register_limit(group_threads))
    options.push_back("--maxrregcount=" + std::to_string(most));
  return options;
}

std::string nvrtc_version() {
  int major = 0, minor = 0;
  check_nvrtc(nvrtc().version(&major, &minor), "asking for its version");
  return "nvrtc " + std::to_string(major) + "." + std::to_string(minor);
}

Cubin compile_cuda(const std::string& name, const std::string& text,
                   const std::vector<std::string>& options, const Headers& headers) {
  Compilation compilation(name, text, headers);
  std::vector<std::string> all = options;
  if (text.find("#define KD_NO_CONTRACTION 1\n") != text.npos) all.push_back("--fmad=false");
  if (compilation.run(all)) return {compilation.code(), ""};
  return {"", first_error(compilation.log())};
}

}  // namespace mlx_kd::devices::cuda
