#include "mlx_kd/kernels/user/space.h"

#include <algorithm>
#include <bit>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/user/ports.h"

namespace mlx_kd::kernels {
namespace user {
namespace {

constexpr int64_t kMostGroup = 1024;  // threads of a threadgroup
constexpr int64_t kMostGrid =
    (int64_t(1) << 31) - 1;              // threads of a launch, as a device takes them
constexpr size_t kMostChecked = 200000;  // settings that are walked beforehand

spec::KnobScale scale_of(const std::vector<int64_t>& values) {
  const bool are_powers = std::all_of(values.begin(), values.end(), [](int64_t value) {
    return value > 0 && std::has_single_bit(static_cast<uint64_t>(value));
  });
  if (are_powers && values.size() > 1) return spec::KnobScale::log2;
  return values.size() > 2 ? spec::KnobScale::linear : spec::KnobScale::choice;
}

spec::Knob make_knob(const UserKnob& knob) {
  return {knob.name, knob.values, scale_of(knob.values),
          knob.launch ? spec::KnobRole::launch : spec::KnobRole::source, ""};
}

// Of a constraint's names those that are knobs; the others are sizes.
std::vector<std::string> knobs_in(const Expression& expression, const UserKernel& kernel) {
  std::vector<std::string> result;
  for (const std::string& name : expression.names())
    if (std::any_of(kernel.knobs.begin(), kernel.knobs.end(),
                    [&](const UserKnob& knob) { return knob.name == name; }))
      result.push_back(name);
  return result;
}

// It must hold at every size of the run.
spec::Constraint make_constraint(const std::string& text, const UserKernel& kernel) {
  const Expression expression(text);
  const auto knobs = knobs_in(expression, kernel);
  if (knobs.empty())
    base::misuse("tune", "the constraint '" + text + "' names no knob: correct it or leave it out");
  const auto holds = [expression, knobs, sizes = kernel.sizes](const int64_t* values) {
    spec::Setting setting;
    for (size_t i = 0; i < knobs.size(); ++i) setting.set(knobs[i], values[i]);
    return std::all_of(sizes.begin(), sizes.end(), [&](const spec::Dims& size) {
      return expression.value(setting, size) != 0;
    });
  };
  return {text, knobs, holds};
}

// Only settings that have a launch are valid.
spec::Constraint has_launch(const UserKernel& kernel) {
  std::vector<std::string> names;
  for (const UserKnob& knob : kernel.knobs) names.push_back(knob.name);
  return {"the setting has a launch", names,
          [names, launches = kernel.launches](const int64_t* values) {
            spec::Setting setting;
            for (size_t i = 0; i < names.size(); ++i) setting.set(names[i], values[i]);
            return launches.contains(setting.text());
          }};
}

// By the table; knobs in the order of the kernel, whatever the order of the setting.
spec::Launch launch_in(const UserKernel& kernel, const spec::Setting& knobs) {
  spec::Setting ordered;
  for (const UserKnob& knob : kernel.knobs) ordered.set(knob.name, knobs.at(knob.name));
  const auto found = kernel.launches.find(ordered.text());
  if (found == kernel.launches.end())
    base::misuse("tune", "'" + kernel.function + "' has no launch for " + ordered.text());
  const auto& n = found->second;
  return {{n[0], n[1], n[2]}, {n[3], n[4], n[5]}};
}

std::vector<Expression> parsed(const std::vector<std::string>& texts) {
  std::vector<Expression> result;
  for (const std::string& text : texts) result.emplace_back(text);
  return result;
}

std::array<int64_t, 3> values_of(const std::vector<Expression>& expressions, const spec::Dims& dims,
                                 const spec::Setting& knobs) {
  std::array<int64_t, 3> result = {1, 1, 1};
  for (size_t i = 0; i < expressions.size() && i < result.size(); ++i)
    result[i] = expressions[i].value(knobs, dims);
  return result;
}

int64_t product(const std::array<int64_t, 3>& sizes) {
  int64_t result = 1;
  for (const int64_t size : sizes)
    if (__builtin_mul_overflow(result, size, &result)) return INT64_MAX;
  return result;
}

[[noreturn]] void refuse_launch(const UserKernel& kernel, const std::string& what,
                                const spec::Dims& dims, const spec::Setting& knobs,
                                const std::string& advice) {
  base::misuse("tune", "the launch of '" + kernel.function + "' has " + what + " at " +
                           dims.text() + " with " + knobs.text() + ": " + advice);
}

void check_launch(const UserKernel& kernel, const spec::Launch& launch, const spec::Dims& dims,
                  const spec::Setting& knobs) {
  const std::string or_exclude = "correct it, or exclude the setting by a constraint";
  for (const auto& [sizes, what] : {std::pair{&launch.grid, "grid"}, {&launch.group, "group"}})
    for (const int64_t size : *sizes)
      if (size < 1)
        refuse_launch(kernel, "a " + std::string(what) + " of " + std::to_string(size), dims, knobs,
                      or_exclude);
  if (kernel.language == "cpp") return;
  if (product(launch.grid) > kMostGrid)
    refuse_launch(kernel, "more than 2^31 - 1 threads", dims, knobs,
                  "let a thread do more, or give smaller sizes");
  if (product(launch.group) > kMostGroup)
    refuse_launch(kernel, "threadgroups of " + std::to_string(product(launch.group)) + " threads",
                  dims, knobs, "at most 1024 fit; " + or_exclude);
}

// The valid settings in order, at most `most` of them.
class SettingWalk {
 public:
  SettingWalk(const spec::Space& space, size_t most) : space_(space), left_(most) {}

  template <class Visit>
  bool run(const Visit& visit) {
    spec::Setting setting;
    found_ = false;
    step(0, setting, visit);
    return found_ || left_ == 0;
  }

 private:
  template <class Visit>
  void step(size_t knob, spec::Setting& setting, const Visit& visit) {
    if (left_ == 0) return;
    if (knob == space_.knobs.size()) {
      --left_;
      if (!spec::is_valid(space_, setting)) return;
      found_ = true;
      return visit(setting);
    }
    for (const int64_t value : space_.knobs[knob].values) {
      setting.set(space_.knobs[knob].name, value);
      step(knob + 1, setting, visit);
    }
  }

  const spec::Space& space_;
  size_t left_;
  bool found_ = false;
};

}  // namespace

spec::Space space_of(const UserKernel& kernel) {
  spec::Space space;
  for (const UserKnob& knob : kernel.knobs) space.knobs.push_back(make_knob(knob));
  for (const std::string& text : kernel.constraints)
    space.constraints.push_back(make_constraint(text, kernel));
  if (!kernel.launches.empty()) space.constraints.push_back(has_launch(kernel));
  return space;
}

std::function<spec::Launch(const spec::Dims&, const spec::Setting&)> launch_of(
    const UserKernel& kernel) {
  if (!kernel.launches.empty())
    return [kernel](const spec::Dims&, const spec::Setting& knobs) {
      return launch_in(kernel, knobs);
    };
  return [is_cpu = kernel.language == "cpp", grid = parsed(kernel.grid),
          group = parsed(kernel.group),
          threads = parsed(kernel.threads.empty() ? std::vector<std::string>{}
                                                  : std::vector<std::string>{kernel.threads})](
             const spec::Dims& dims, const spec::Setting& knobs) {
    spec::Launch launch{values_of(grid, dims, knobs), values_of(group, dims, knobs)};
    if (!is_cpu) return launch;
    const int64_t tasks =
        (launch.grid[0] + launch.group[0] - 1) / std::max<int64_t>(1, launch.group[0]);
    const int64_t wanted = threads.empty() ? 1 : threads.front().value(knobs, dims);
    launch.threads = static_cast<int>(std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, tasks)));
    return launch;
  };
}

std::vector<spec::Dims> edge_sizes(const UserKernel& kernel) {
  constexpr size_t kMostSizes = 2;
  std::vector<spec::Dims> sizes = kernel.sizes;
  const auto total = [](const spec::Dims& size) {
    double result = 1;
    for (const auto& [name, value] : size.items()) result *= static_cast<double>(value);
    return result;
  };
  std::sort(sizes.begin(), sizes.end(),
            [&](const auto& a, const auto& b) { return total(a) < total(b); });
  std::vector<spec::Dims> result;
  const auto add = [&](const spec::Dims& size) {
    if (std::find(result.begin(), result.end(), size) == result.end()) result.push_back(size);
  };
  for (size_t i = 0; i < std::min(kMostSizes, sizes.size()); ++i) {
    if (kernel.batch_dim.empty()) add(sizes[i]);
    for (const int64_t batch :
         kernel.batch_dim.empty() ? std::vector<int64_t>{} : std::vector<int64_t>{1, 3}) {
      spec::Dims size = sizes[i];
      size.set(kernel.batch_dim, batch);
      add(size);
    }
  }
  return result;
}

void check_fit(const UserKernel& kernel, const spec::Dims& dims) {
  const spec::Space all = space_of(kernel);
  for (const std::string& text : kernel.constraints) {
    const Expression expression(text);
    const auto names = knobs_in(expression, kernel);
    if (names.size() == expression.names().size()) continue;  // it names no size
    const auto is_among = [&](const std::string& name) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    spec::Space own;
    for (const spec::Knob& knob : all.knobs)
      if (is_among(knob.name)) own.knobs.push_back(knob);
    for (const spec::Constraint& one : all.constraints)
      if (std::all_of(one.knobs.begin(), one.knobs.end(), is_among)) own.constraints.push_back(one);
    SettingWalk(own, kMostChecked).run([&](const spec::Setting& setting) {
      if (expression.value(setting, dims) == 0)
        base::misuse("kernels", "'" + kernel.name + "' does not take " + dims.text() + ": '" +
                                    text + "' does not hold with " + setting.text() +
                                    "; give a size at which it holds with every setting");
    });
  }
}

}  // namespace user

void set_sizes(UserKernel& kernel, const std::vector<spec::Dims>& sizes) {
  kernel.sizes = sizes;
  const spec::Space space = user::space_of(kernel);
  const auto launch = user::launch_of(kernel);
  const bool any =
      user::SettingWalk(space, user::kMostChecked).run([&](const spec::Setting& setting) {
        for (const spec::Dims& size : sizes)
          user::check_launch(kernel, launch(size, setting), size, setting);
      });
  if (any) return;
  std::string constraints;
  for (const std::string& text : kernel.constraints)
    constraints += (constraints.empty() ? "" : "; ") + text;
  base::misuse("tune", "no setting of the knobs of '" + kernel.function +
                           "' satisfies its constraints at every size (" + constraints +
                           "): relax one, or add values");
}

}  // namespace mlx_kd::kernels
