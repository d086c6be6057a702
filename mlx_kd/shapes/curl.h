// The program curl, told what to do through a pipe.
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <vector>

namespace mlx_kd::shapes {

struct CurlResult {
  int exit_code = -1;    // of curl: 0, 6 (no such host), 7 (no connection), 28 (too slow), ...
  bool missing = false;  // curl is not installed
  bool cancelled = false;
  std::string output;  // what it printed, messages included
  // What is worth another attempt: a cut, a time limit, a server that is busy.
  bool is_transient() const;
  std::string message() const;  // curl's own, "Could not resolve host: ..."
};

// Lines of a curl config file, as {"url", "https://..."}; an empty value makes a flag.
using CurlOptions = std::vector<std::pair<std::string, std::string>>;

CurlResult run_curl(const CurlOptions& options, double limit_s, const std::atomic<bool>* cancelled);

// The answer to a request for headers. Of several answers (redirects) the last one counts, but for
// the names that begin with x-: there the first which has it.
struct Headers {
  int status = 0;
  std::map<std::string, std::string> values;  // by name in small letters
  std::string value(const std::string& name) const;
};
Headers parse_headers(const std::string& text);

}  // namespace mlx_kd::shapes
