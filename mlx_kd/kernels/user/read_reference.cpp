// What a kernel is held against, from the options and the head.
#include <algorithm>
#include <cmath>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/kernels/user/read_files.h"
#include "mlx_kd/kernels/user/reference.h"

namespace mlx_kd::kernels::user {
namespace {

namespace fs = std::filesystem;

double tolerance(const std::string& text, const std::string& whole) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end || !std::isfinite(value) || value < 0)
    base::misuse("tune", "the judge '" + whole + "' has the tolerance '" + text +
                             "': give numbers of at least 0, as close rtol=1e-3 atol=1e-5");
  return value;
}

}  // namespace

UserReference parse_reference(const UserKernelFiles& files, const Head& head) {
  const HeadLine* line = head.only("reference");
  std::string text = files.reference;
  fs::path folder = fs::current_path();
  if (text.empty() && line) {
    text = line->rest;
    folder = fs::absolute(files.file).parent_path();
  }
  if (text.empty())
    base::misuse("tune",
                 "there is no reference that says what '" + files.function +
                     "' computes: give --ref with an operator of kd ops, FILE.py[:FUNCTION], "
                     "or recorded arrays (.npz, .safetensors)");
  UserReference result;
  const size_t python = text.find(".py");
  const bool is_recorded = text.ends_with(".npz") || text.ends_with(".safetensors");
  if (python == text.npos && !is_recorded) {
    result.name = text;
    return result;
  }
  const fs::path file = folder / (is_recorded ? text : text.substr(0, python + 3));
  result.path = file.lexically_normal().string();
  const std::string bytes = base::read_file(file, "tune");
  if (is_recorded) {
    result.kind = UserReference::Kind::recorded;
    result.sha256 = base::sha256_hex(bytes);
  } else {
    result.kind = UserReference::Kind::python;
    result.text = bytes;
    if (python + 4 < text.size()) result.name = text.substr(python + 4);
  }
  return result;
}

UserJudge parse_judge(const std::string& given, const UserReference& reference) {
  std::string text = given;
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == ':' || c == ','; }, ' ');
  const auto words = parts_of(text, ' ');
  UserJudge judge;
  if (!words.front().empty())
    judge.name = words.front();
  else if (reference.kind == UserReference::Kind::recorded)
    judge = {"close", 1e-5, 1e-6};
  if (judge.name != "bound" && judge.name != "exact" && judge.name != "close")
    base::misuse("tune", "the judge '" + judge.name +
                             "' is not known: choose 'bound', 'close' or "
                             "'exact'");
  for (size_t i = 1; i < words.size(); ++i) {
    const bool is_relative = words[i].starts_with("rtol=");
    if (words[i].empty()) continue;
    if (judge.name != "close" || !(is_relative || words[i].starts_with("atol=")))
      base::misuse("tune", "the judge '" + given + "' has '" + words[i] +
                               "': only close takes rtol= and atol=");
    (is_relative ? judge.relative : judge.absolute) = tolerance(words[i].substr(5), given);
  }
  if (judge.name == "close" && judge.relative == 0 && judge.absolute == 0)
    base::misuse("tune", "the judge close has no tolerance: write close:rtol=1e-3,atol=1e-5");
  return judge;
}

void take_recorded_size(UserKernel& kernel) {
  const auto shapes = recorded_shapes(kernel.reference);
  spec::Dims size;
  for (const auto* ports : {&kernel.inputs, &kernel.outputs})
    for (const UserPort& port : *ports) {
      const auto found = shapes.find(port.name);
      if (found == shapes.end()) {
        std::vector<std::string> names;
        for (const auto& [name, shape] : shapes) names.push_back(name);
        base::misuse("tune", kernel.reference.path + " holds no array '" + port.name + "', but " +
                                 base::list_of(names));
      }
      for (size_t i = 0; i < port.shape.size() && i < found->second.size(); ++i)
        if (std::find(kernel.dims.begin(), kernel.dims.end(), port.shape[i]) != kernel.dims.end())
          size.set(port.shape[i], found->second[i]);
    }
  kernel.sizes = {size};
}

}  // namespace mlx_kd::kernels::user
