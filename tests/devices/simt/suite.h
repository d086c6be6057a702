// The suite of Metal kernels with what each must compute, in float64. One list, for every way in
// which a Metal kernel runs: the executor, emulated CUDA, a real GPU.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "mlx_kd/devices/simt/checks/session.h"

namespace mlx_kd::devices::simt {

using Values = std::vector<double>;

// What the kernel was given, by name.
using Given = std::function<Values(const std::string&)>;
using Expected = std::function<Values(const Given&)>;

struct SuiteCase {
  std::string file;  // in tests/msl/suite
  std::string kernel;
  Size3 grid;
  Size3 threadgroup;
  std::vector<std::string> inputs;  // as on the command line
  std::vector<std::string> outputs;
  std::string result;  // the array that is compared
  Expected expected;
  double tolerance = 0;             // of |value - expected| / max(1, |expected|)
  std::vector<size_t> group_bytes;  // of each [[threadgroup(n)]] argument
  std::map<int, std::string> constants;
  bool diverges = false;  // on purpose: the check must say so
};

// Adds the cases of one file.
class CaseList {
 public:
  CaseList(std::vector<SuiteCase>& list, std::string file) : list_(list), file_(std::move(file)) {}

  // inputs and outputs stand as on the command line, with blanks between. Compared is the first
  // output, or the last input where the kernel has no output of its own.
  SuiteCase& add(const std::string& kernel, Size3 grid, Size3 threadgroup,
                 const std::string& inputs, const std::string& outputs, Expected expected,
                 double tolerance = 0);

 private:
  std::vector<SuiteCase>& list_;
  std::string file_;
};

// One function a file of cases.
void add_elementwise(std::vector<SuiteCase>& list);
void add_language(std::vector<SuiteCase>& list);
void add_reductions(std::vector<SuiteCase>& list);
void add_norms(std::vector<SuiteCase>& list);
void add_products(std::vector<SuiteCase>& list);
void add_groups(std::vector<SuiteCase>& list);
void add_exchanges(std::vector<SuiteCase>& list);
void add_atomics(std::vector<SuiteCase>& list);
void add_generated(std::vector<SuiteCase>& list);

const std::vector<SuiteCase>& suite();

// `f` of each value of one array.
Values each(const Given& given, const std::string& name, const std::function<double(double)>& f);

// One compilation a file and set of function constants.
Session& session_of(const SuiteCase& one);
std::string path_of(const SuiteCase& one);

// The arrays, filled; the same at every call.
MslRequest request_of(const SuiteCase& one);
Values values_of(const MslRequest& request, const std::string& name);

// Where the result is not what float64 says: "y[3] is 2, not 5"; "" if it is.
std::string difference(const SuiteCase& one, const MslRequest& given, const MslRequest& done);

// The largest |value - expected| / max(1, |expected|).
double largest_error(const SuiteCase& one, const MslRequest& given, const MslRequest& done);

inline void PrintTo(const SuiteCase& one, std::ostream* out) {
  *out << one.kernel;
}

}  // namespace mlx_kd::devices::simt
