// From a kernel file and what was asked for to the description of the kernel.
#include <algorithm>
#include <cmath>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/user/expression.h"
#include "mlx_kd/kernels/user/read_files.h"
#include "mlx_kd/kernels/user/spliced.h"

namespace mlx_kd::kernels {
namespace user {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMostSource = uint64_t(4) << 20;

std::string language_of(const fs::path& file) {
  const std::string name = file.filename().string();
  if (name.ends_with(".metal")) return "metal";
  if (name.ends_with(".cu")) return "cuda";
  if (name.ends_with(".cpp")) return "cpp";
  base::misuse("tune", "'" + name +
                           "' does not name a kernel that kd reads: give a .metal, .cu or "
                           ".cpu.cpp file");
}

void read_config(const UserKernelFiles& files, Head& head) {
  fs::path config = files.config;
  if (config.empty()) {
    config = files.file;
    config.replace_extension(".toml");
    std::error_code ignored;
    if (!fs::exists(config, ignored)) return;
  }
  add_toml(base::read_file(config, "tune", kMostSource), config.filename().string(), head);
}

void add_knobs(const Head& head, UserKernel& kernel) {
  for (const UserKnob& macro : head.macros) kernel.knobs.push_back(macro);
  for (const HeadLine* line : head.all("knob")) {
    const size_t space = std::min(line->rest.find(' '), line->rest.size());
    const std::string name = line->rest.substr(0, space);
    UserKnob knob{name, integers_of(line->rest.substr(space), line->place)};
    const auto known = std::find_if(kernel.knobs.begin(), kernel.knobs.end(),
                                    [&](const UserKnob& one) { return one.name == name; });
    if (known == kernel.knobs.end())
      kernel.knobs.push_back(knob);
    else
      known->values = knob.values;
  }
  if (kernel.knobs.empty())
    base::misuse("tune", kernel.file +
                             " has no knobs, so there is nothing to tune: write #ifndef TG, "
                             "#define TG 256  // knob: 64, 128, 256, #endif");
}

bool is_knob(const UserKernel& kernel, const std::string& name) {
  return std::any_of(kernel.knobs.begin(), kernel.knobs.end(),
                     [&](const UserKnob& knob) { return knob.name == name; });
}

void add_expressions(const HeadLine* line, std::vector<std::string>& to) {
  if (!line) return;
  try {
    for (const Expression& one : expressions_of(line->rest)) to.push_back(trimmed(one.text()));
  } catch (const base::Error& error) {
    const std::string text = error.what();
    base::misuse("tune", line->place + ": " + text.substr(text.find("] ") + 2));
  }
  if (to.empty() || to.size() > 3)
    base::misuse("tune", line->place + ": '" + line->word + "' takes one, two or three numbers");
}

const HeadLine& needed(const Head& head, const UserKernel& kernel, const std::string& word,
                       const std::string& example) {
  if (const HeadLine* line = head.only(word)) return *line;
  base::misuse("tune", kernel.file + " does not say how it is launched: write // kd: " + word +
                           " " + example);
}

// "TG=64,VEC=1 4096 1 1 64 1 1" for each setting.
void add_launch_table(const std::vector<const HeadLine*>& lines, UserKernel& kernel) {
  for (const HeadLine* line : lines) {
    const auto words = parts_of(line->rest, ' ');
    std::vector<int64_t> numbers;
    for (size_t i = 1; i < words.size(); ++i)
      numbers.push_back(integers_of(words[i], line->place).front());
    const spec::Setting given = spec::Setting::parse(words.front());
    spec::Setting ordered;
    for (const UserKnob& knob : kernel.knobs)
      if (given.has(knob.name)) ordered.set(knob.name, given.at(knob.name));
    if (numbers.size() != 6 || ordered.items().size() != kernel.knobs.size())
      base::misuse("tune", line->place + ": '" + line->rest +
                               "' is not a launch: give a value for "
                               "each knob, then six numbers, the grid and the group");
    kernel.launches[ordered.text()] = numbers;
  }
}

void add_launch(const Head& head, UserKernel& kernel) {
  for (const HeadLine* line : head.all("where")) {
    Expression checked(line->rest);
    kernel.constraints.push_back(line->rest);
  }
  const auto table = head.all("launch");
  if (!table.empty()) return add_launch_table(table, kernel);
  const bool is_cpu = kernel.language == "cpp";
  add_expressions(
      &needed(head, kernel, is_cpu ? "units" : "grid", is_cpu ? "(rows)" : "(rows * TG)"),
      kernel.grid);
  if (is_cpu) {
    add_expressions(head.only("grain"), kernel.group);
    if (const HeadLine* threads = head.only("threads")) kernel.threads = threads->rest;
  } else {
    add_expressions(&needed(head, kernel, "group", "(TG)"), kernel.group);
  }
}

void add_scalars(const Head& head, UserKernel& kernel) {
  for (const HeadLine* line : head.all("scalar")) {
    const size_t space = std::min(line->rest.find(' '), line->rest.size());
    char* end = nullptr;
    const std::string number = trimmed(line->rest.substr(space));
    const double value = std::strtod(number.c_str(), &end);
    if (number.empty() || *end || !std::isfinite(value))
      base::misuse("tune", line->place + ": '" + line->rest +
                               "' is not a scalar: write for example "
                               "scalar eps 1e-5");
    kernel.scalars.push_back({line->rest.substr(0, space), value, {value}});
  }
}

std::vector<UserPort> described_ports(const Head& head, const std::string& word) {
  std::vector<UserPort> result;
  for (const HeadLine* line : head.all(word)) result.push_back(port_of(*line));
  return result;
}

// The shapes and ranges that the head states, on the ports that the signature has.
void merge_ports(const std::vector<UserPort>& described, const UserKernel& kernel,
                 const std::string& word, const std::vector<std::string>& elsewhere,
                 std::vector<UserPort>& ports) {
  for (UserPort& port : ports) {
    const auto found = std::find_if(described.begin(), described.end(),
                                    [&](const UserPort& one) { return one.name == port.name; });
    if (found == described.end())
      base::misuse("tune", kernel.file + " does not say which shape '" + port.name +
                               "' has: write // kd: " + word + " " + port.name + " (rows, D)");
    const std::string type = port.type;
    port = *found;
    port.type = port.type.empty() || type == "T" ? type : port.type;
  }
  for (const UserPort& one : described)
    if (std::none_of(ports.begin(), ports.end(),
                     [&](const UserPort& port) { return port.name == one.name; }) &&
        std::find(elsewhere.begin(), elsewhere.end(), one.name) == elsewhere.end())
      base::misuse("tune",
                   kernel.file + " describes '" + one.name + "', which is not " +
                       (word == "in" ? "an input (a const pointer)" : "an output (a pointer)") +
                       " of the kernel: correct its name");
}

void add_dims(const Head& head, const Signature& signature, UserKernel& kernel) {
  const auto add = [&](const std::string& name) {
    const bool is_scalar = std::any_of(kernel.scalars.begin(), kernel.scalars.end(),
                                       [&](const spec::Scalar& one) { return one.name == name; });
    if (!is_scalar && !is_knob(kernel, name) &&
        std::find(kernel.dims.begin(), kernel.dims.end(), name) == kernel.dims.end())
      kernel.dims.push_back(name);
  };
  if (const HeadLine* line = head.only("sizes"))
    for (const std::string& name : parts_of(line->rest)) add(name);
  for (const auto* ports : {&kernel.inputs, &kernel.outputs})
    for (const UserPort& port : *ports)
      for (const std::string& axis : port.shape)
        for (const std::string& name : names_in(axis)) add(name);
  for (const std::string& name : signature.whole) add(name);
  for (const std::string& name : signature.real)
    if (std::none_of(kernel.scalars.begin(), kernel.scalars.end(),
                     [&](const spec::Scalar& one) { return one.name == name; }))
      base::misuse("tune", kernel.file + ": the kernel takes the number '" + name +
                               "': write // kd: scalar " + name + " 1e-5");
}

// The first size, unless the head names another or a constraint ties it.
void choose_batch(const Head& head, UserKernel& kernel) {
  if (const HeadLine* line = head.only("batch")) {
    if (line->rest != "none") kernel.batch_dim = line->rest;
    return;
  }
  if (kernel.reference.kind == UserReference::Kind::recorded || kernel.dims.empty()) return;
  const std::string& first = kernel.dims.front();
  for (const std::string& text : kernel.constraints)
    for (const std::string& name : names_in(text))
      if (name == first) return;
  kernel.batch_dim = first;
}

void check_names(const UserKernel& kernel, const std::vector<std::string>& sizes) {
  std::vector<std::string> texts = kernel.grid;
  texts.insert(texts.end(), kernel.group.begin(), kernel.group.end());
  if (!kernel.threads.empty()) texts.push_back(kernel.threads);
  texts.insert(texts.end(), kernel.constraints.begin(), kernel.constraints.end());
  for (const std::string& text : texts)
    for (const std::string& name : names_in(text))
      if (!is_knob(kernel, name) && std::find(sizes.begin(), sizes.end(), name) == sizes.end())
        base::misuse("tune", kernel.file + ": '" + text + "' names '" + name +
                                 "', which is neither a size nor a knob: sizes are " +
                                 base::list_of(sizes));
  for (const UserKnob& knob : kernel.knobs)
    if (std::find(sizes.begin(), sizes.end(), knob.name) != sizes.end())
      base::misuse("tune", kernel.file + ": '" + knob.name + "' is a size and a knob: rename one");
}

bool is_in(const std::vector<std::string>& texts, const std::string& name) {
  return std::any_of(texts.begin(), texts.end(),
                     [&](const std::string& text) { return has_word(text, name); });
}

std::vector<std::string> launch_texts(const UserKernel& kernel) {
  std::vector<std::string> result = kernel.grid;
  result.insert(result.end(), kernel.group.begin(), kernel.group.end());
  result.push_back(kernel.threads);
  return result;
}

[[noreturn]] void refuse_unused(const UserKernel& kernel, const std::string& knob) {
  base::misuse("tune", kernel.file + ": the knob '" + knob +
                           "' is never used, so its values are all the same kernel: use it or "
                           "leave it out");
}

// A knob must do something: in the text behind its own definition, or in the launch.
void check_used(const Source& source, UserKernel& kernel) {
  const std::string code = without_comments(source.text);
  for (UserKnob& knob : kernel.knobs) {
    knob.launch = !is_mentioned(code, knob.name);
    if (!knob.launch || !kernel.launches.empty()) continue;
    if (!is_in(launch_texts(kernel), knob.name)) refuse_unused(kernel, knob.name);
  }
}

// Those that only other kernels of the file use keep their defaults.
void leave_out_knobs(const Signature& signature, UserKernel& kernel) {
  const std::vector<std::string>& unused = signature.unused_knobs;
  if (!kernel.launches.empty()) return;
  const size_t left_out = std::erase_if(kernel.knobs, [&](const UserKnob& knob) {
    return std::find(unused.begin(), unused.end(), knob.name) != unused.end() &&
           !is_in(launch_texts(kernel), knob.name) && !is_in(kernel.constraints, knob.name);
  });
  if (signature.other_parameters.empty() && left_out > 0) refuse_unused(kernel, unused.front());
  if (kernel.knobs.empty())
    base::misuse("tune", kernel.file + ": '" + kernel.function + "' uses none of the knobs " +
                             base::list_of(unused) + ": give it one that it uses");
}

std::vector<std::string> sizes_of(const UserKernel& kernel) {
  if (kernel.reference.kind != UserReference::Kind::op) return kernel.dims;
  const spec::Op& op = find_op(kernel.reference.name);
  std::vector<std::string> names;
  const spec::Dims complete = spec::complete(op, op.suites.front().sizes.front());
  for (const auto& [name, value] : complete.items()) names.push_back(name);
  return names;
}

// Names of arrays are those of the operator, which brings shapes, types and judges.
void take_ports_of(const spec::Op& op, const Signature& signature, UserKernel& kernel) {
  const auto check = [&](const std::vector<UserPort>& ports, const std::vector<spec::Port>& known) {
    std::vector<std::string> names;
    for (const spec::Port& port : known) names.push_back(port.name);
    for (const UserPort& port : ports)
      if (std::find(names.begin(), names.end(), port.name) == names.end())
        base::misuse("tune", kernel.file + ": the kernel's array '" + port.name +
                                 "' is none of operator '" + op.name + "', which has " +
                                 base::list_of(names) + ": name it so");
  };
  check(signature.inputs, op.inputs);
  check(signature.outputs, op.outputs);
  kernel.inputs.clear(), kernel.outputs.clear(), kernel.scalars.clear();
}

Signature signature_of(const Source& source, UserKernel& kernel) {
  if (kernel.language == "metal") return prepare_metal(source, kernel);
  if (!has_word(without_comments(source.text), kernel.function))
    base::misuse("tune",
                 kernel.file + " has no function '" + kernel.function + "': give one with --fn");
  kernel.source = source.text;
  Signature result;
  result.inputs = kernel.inputs;
  result.outputs = kernel.outputs;
  for (auto* ports : {&result.inputs, &result.outputs})
    for (UserPort& port : *ports)
      if (port.type.empty()) port.type = "T";
  return result;
}

// The ports and dims: those of the operator that is the reference, or of the text and the head.
void settle_ports(const Source& source, Signature& signature, UserKernel& kernel) {
  if (kernel.reference.kind == UserReference::Kind::op)
    return take_ports_of(find_op(kernel.reference.name), signature, kernel);
  const auto& others = signature.other_parameters;
  merge_ports(kernel.inputs, kernel, "in", others, signature.inputs);
  merge_ports(kernel.outputs, kernel, "out", others, signature.outputs);
  kernel.inputs = signature.inputs;
  kernel.outputs = signature.outputs;
  add_dims(source.head, signature, kernel);
  choose_batch(source.head, kernel);
}

// The one that is named, by the option or the head, or the only one that there is.
std::string function_of(const UserKernelFiles& files, const Source& source,
                        const UserKernel& kernel) {
  if (!files.function.empty()) return files.function;
  if (const HeadLine* line = source.head.only("function")) return line->rest;
  std::vector<std::string> known;
  if (kernel.language == "metal") known = metal_kernels(source, kernel);
  if (known.size() == 1) return known.front();
  base::misuse("tune", known.empty()
                           ? "no kernel of " + kernel.file + " is named: give one with --fn"
                           : kernel.file + " has the kernels " + base::list_of(known) +
                                 ": give one with --fn");
}

}  // namespace
}  // namespace user

std::string in_user_files(const UserKernel& kernel, const std::string& message) {
  return user::in_user_files(message, {kernel.file, kernel.function + ".metal"}, kernel.places);
}

UserKernel read_user_kernel(const UserKernelFiles& files) {
  using namespace user;
  UserKernel kernel;
  kernel.language = language_of(files.file);
  kernel.file = files.file.filename().string();
  Spliced text = spliced(files.file);
  Source source{kernel.file, std::move(text.text), std::move(text.places), {}};
  source.head = read_head(source.text, kernel.file);
  take_section(files.function, kernel.file, source.head);
  read_config(files, source.head);
  add_knobs(source.head, kernel);
  kernel.function = function_of(files, source, kernel);
  kernel.name = files.name.empty() ? kernel.function : files.name;
  kernel.reference = parse_reference(files, source.head);
  const HeadLine* judge = source.head.only("judge");
  kernel.judge = parse_judge(!files.judge.empty() ? files.judge
                             : judge              ? judge->rest
                                                  : "",
                             kernel.reference);
  add_launch(source.head, kernel);
  add_scalars(source.head, kernel);
  kernel.inputs = described_ports(source.head, "in");
  kernel.outputs = described_ports(source.head, "out");
  check_used(source, kernel);
  Signature signature = signature_of(source, kernel);
  leave_out_knobs(signature, kernel);
  kernel.type = signature.type;
  settle_ports(source, signature, kernel);
  check_names(kernel, sizes_of(kernel));
  if (kernel.reference.kind == UserReference::Kind::recorded) take_recorded_size(kernel);
  return kernel;
}

}  // namespace mlx_kd::kernels
