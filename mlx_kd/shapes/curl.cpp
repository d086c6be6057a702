#include "mlx_kd/shapes/curl.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "mlx_kd/base/process.h"

namespace mlx_kd::shapes {
namespace {

std::string quoted(const std::string& value) {
  std::string result = "\"";
  for (char c : value) {
    if (c == '"' || c == '\\') result += '\\';
    result += c == '\n' ? "\\n" : std::string(1, c);
  }
  return result + "\"";
}

std::string config_text(const CurlOptions& options) {
  std::string text;
  for (const auto& [name, value] : options)
    text += name + (value.empty() ? "" : " = " + quoted(value)) + "\n";
  return text;
}

// A pipe that holds the text already; curl inherits its end for reading.
class ConfigPipe {
 public:
  explicit ConfigPipe(const std::string& text) {
    int ends[2];
    if (pipe(ends) != 0) return;
    read_end_ = ends[0];
    // A few hundred bytes: they fit into any pipe.
    is_whole_ = write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    close(ends[1]);
  }
  ~ConfigPipe() {
    if (read_end_ >= 0) close(read_end_);
  }
  ConfigPipe(const ConfigPipe&) = delete;
  ConfigPipe& operator=(const ConfigPipe&) = delete;
  bool is_whole() const { return is_whole_; }
  std::string path() const { return "/dev/fd/" + std::to_string(read_end_); }

 private:
  int read_end_ = -1;
  bool is_whole_ = false;
};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r"), end = text.find_last_not_of(" \t\r");
  return begin == text.npos ? "" : text.substr(begin, end - begin + 1);
}

// What the hub says of the file (x-...) is in its own answer, the length in the last.
void take(const std::string& name, const std::string& value, Headers& headers) {
  if (name.rfind("x-", 0) == 0)
    headers.values.emplace(name, value);
  else
    headers.values[name] = value;
}

}  // namespace

CurlResult run_curl(const CurlOptions& options, double limit_s,
                    const std::atomic<bool>* cancelled) {
  CurlResult result;
  const ConfigPipe config(config_text(options));
  if (!config.is_whole()) return result;
  // --disable: what a user's own .curlrc says is not meant for this.
  const auto process = base::run_process({"curl", "--disable", "--config", config.path()}, limit_s,
                                         1 << 16, cancelled);
  result.missing = !process.started || process.exit_code == 127;
  result.cancelled = cancelled && *cancelled;
  result.exit_code = process.timed_out ? 28 : process.exit_code;
  result.output = process.output;
  return result;
}

bool CurlResult::is_transient() const {
  constexpr int kTransient[] = {18, 28, 52, 55, 56, 92};
  return std::find(std::begin(kTransient), std::end(kTransient), exit_code) != std::end(kTransient);
}

std::string CurlResult::message() const {
  const size_t at = output.rfind("curl: (");
  if (at == output.npos)
    return exit_code == 28 ? "no answer in time" : "curl ended with " + std::to_string(exit_code);
  const size_t text = output.find(") ", at);
  return trimmed(output.substr(text + 2, output.find('\n', text) - text - 2));
}

std::string Headers::value(const std::string& name) const {
  const auto found = values.find(name);
  return found == values.end() ? "" : found->second;
}

Headers parse_headers(const std::string& text) {
  Headers result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t blank = line.find(' '), colon = line.find(':');
    if (line.rfind("HTTP/", 0) == 0 && blank != line.npos)
      result.status = std::atoi(line.c_str() + blank);
    else if (colon != line.npos)
      take(lower(line.substr(0, colon)), trimmed(line.substr(colon + 1)), result);
  }
  return result;
}

}  // namespace mlx_kd::shapes
