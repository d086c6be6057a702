// The suite of Metal kernels with what each must compute, in float64.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mlx_kd/devices/simt/session.h"

namespace mlx_kd::devices::simt {

using Values = std::vector<double>;

// What the kernel was given, by name.
using Given = std::function<Values(const std::string&)>;

struct SuiteCase {
  std::string file;  // in tests/msl/suite
  std::string kernel;
  Size3 grid;
  Size3 threadgroup;
  std::vector<std::string> inputs;  // as on the command line
  std::vector<std::string> outputs;
  std::string result;  // the output that is compared
  std::function<Values(const Given&)> expected;
  double tolerance = 0;  // of |value - expected| / max(1, |expected|)
  std::vector<size_t> group_bytes;
  std::map<int, std::string> constants;
  bool diverges = false;  // on purpose: the check must say so
};

const std::vector<SuiteCase>& suite();

inline void PrintTo(const SuiteCase& one, std::ostream* out) {
  *out << one.kernel;
}

}  // namespace mlx_kd::devices::simt
