#include "mlx_kd/discover/models/model_code.h"

#include "mlx_kd/base/process.h"

namespace mlx_kd::discover {
namespace {

constexpr size_t kMostText = 1 << 14;

std::string start_of(const std::string& module) {
  return "import sys\n"
         "try:\n"
         "    from mlx_kd import " +
         module +
         "\n"
         "except ImportError as error:\n"
         "    sys.exit(f'{sys.executable} cannot import mlx_kd ({error})')\n"
         "sys.exit(" +
         module + ".main(sys.argv[1]))\n";
}

std::string last_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

}  // namespace

std::string run_model_code(const std::string& python, const std::string& module,
                           const base::Json& request, double longest_s,
                           const std::atomic<bool>* cancelled) {
  const base::ProcessResult done = base::run_process(
      {python, "-c", start_of(module), request.dump()}, longest_s, kMostText, cancelled);
  if (done.ok()) return "";
  if (!done.started) return "'" + python + "' cannot be started";
  if (done.timed_out) return "it took longer than " + std::to_string(int(longest_s)) + " s";
  const std::string line = last_line(done.output);
  return line.empty() ? "it ended without a word" : line;
}

}  // namespace mlx_kd::discover
