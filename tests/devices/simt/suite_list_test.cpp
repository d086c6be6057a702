// The list of cases, and what every test of the suite does with a case.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

#include "mlx_kd/base/files.h"
#include "tests/devices/simt/suite.h"

namespace mlx_kd::devices::simt {
namespace {

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> list;
  for (std::string word; stream >> word;) list.push_back(word);
  return list;
}

std::string name_of(const std::string& array) {
  return array.substr(0, array.find('='));
}

}  // namespace

SuiteCase& CaseList::add(const std::string& kernel, Size3 grid, Size3 threadgroup,
                         const std::string& inputs, const std::string& outputs, Expected expected,
                         double tolerance) {
  SuiteCase one;
  one.file = file_;
  one.kernel = kernel;
  one.grid = grid;
  one.threadgroup = threadgroup;
  one.inputs = words(inputs);
  one.outputs = words(outputs);
  one.result = name_of(one.outputs.empty() ? one.inputs.back() : one.outputs.front());
  one.expected = std::move(expected);
  one.tolerance = tolerance;
  list_.push_back(std::move(one));
  return list_.back();
}

const std::vector<SuiteCase>& suite() {
  static const std::vector<SuiteCase> list = [] {
    std::vector<SuiteCase> made;
    for (const auto add : {add_elementwise, add_language, add_reductions, add_norms, add_products,
                           add_groups, add_exchanges, add_atomics, add_generated})
      add(made);
    return made;
  }();
  return list;
}

Values each(const Given& given, const std::string& name, const std::function<double(double)>& f) {
  Values values = given(name);
  for (double& value : values) value = f(value);
  return values;
}

std::string path_of(const SuiteCase& one) {
  return std::string(MLX_KD_SOURCE_DIR) + "/tests/msl/suite/" + one.file;
}

Session& session_of(const SuiteCase& one) {
  static std::map<std::string, std::unique_ptr<Session>> sessions;
  std::string key = one.file;
  for (const auto& [index, value] : one.constants) key += "," + std::to_string(index) + "=" + value;
  std::unique_ptr<Session>& session = sessions[key];
  if (!session)
    session =
        std::make_unique<Session>(path_of(one), base::read_file(path_of(one), "test"),
                                  msl::PreprocessOptions{}, msl::TranslateOptions{one.constants});
  return *session;
}

MslRequest request_of(const SuiteCase& one) {
  MslRequest request;
  request.kernel = one.kernel;
  request.grid = one.grid;
  request.threadgroup = one.threadgroup;
  request.group_bytes = one.group_bytes;
  request.launch.timeout_s = 60;
  for (const std::string& text : one.inputs) request.arrays.push_back(parse_array(text, 7));
  for (const std::string& text : one.outputs) request.arrays.push_back(parse_output(text));
  return request;
}

Values values_of(const MslRequest& request, const std::string& name) {
  Values values;
  for (const HostArray& one : request.arrays)
    if (one.name == name)
      for (size_t i = 0; i < one.elements(); ++i) values.push_back(one.at(i));
  return values;
}

std::string difference(const SuiteCase& one, const MslRequest& given, const MslRequest& done) {
  const Values expected =
      one.expected([&](const std::string& name) { return values_of(given, name); });
  const Values result = values_of(done, one.result);
  std::ostringstream text;
  if (result.size() != expected.size())
    text << one.result << " has " << result.size() << " values, not " << expected.size();
  for (size_t i = 0; i < result.size() && text.str().empty(); ++i)
    if (!(std::fabs(result[i] - expected[i]) <=
          one.tolerance * std::max(1.0, std::fabs(expected[i]))))
      text << one.result << "[" << i << "] is " << result[i] << ", not " << expected[i];
  return text.str();
}

double largest_error(const SuiteCase& one, const MslRequest& given, const MslRequest& done) {
  const Values expected =
      one.expected([&](const std::string& name) { return values_of(given, name); });
  const Values result = values_of(done, one.result);
  double largest = 0;
  for (size_t i = 0; i < std::min(result.size(), expected.size()); ++i)
    if (result[i] != expected[i])  // infinities agree
      largest = std::max(
          largest, std::fabs(result[i] - expected[i]) / std::max(1.0, std::fabs(expected[i])));
  return largest;
}

namespace {

TEST(SuiteList, HoldsAtLeastSixtyKernelsAndNamesEachOnce) {
  std::set<std::string> kernels, names;
  for (const SuiteCase& one : suite()) {
    EXPECT_TRUE(names.insert(one.kernel).second) << one.kernel;
    for (const msl::Kernel& kernel : session_of(one).translation().kernels)
      if (kernel.name == one.kernel) kernels.insert(one.file + ":" + kernel.function);
  }
  EXPECT_GE(kernels.size(), 60u);
}

TEST(SuiteList, RunsEveryKernelOfItsFiles) {
  std::set<std::string> run;
  for (const SuiteCase& one : suite()) run.insert(one.file + ":" + one.kernel);
  for (const SuiteCase& one : suite())
    for (const msl::Kernel& kernel : session_of(one).translation().kernels)
      EXPECT_TRUE(run.count(one.file + ":" + kernel.name)) << one.file << ": " << kernel.name;
}

}  // namespace
}  // namespace mlx_kd::devices::simt
