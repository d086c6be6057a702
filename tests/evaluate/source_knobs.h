// Whether each source knob of a kernel changes the object that it is compiled to.
#pragma once

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "mlx_kd/base/files.h"
#include "mlx_kd/base/process.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/host/compiler.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::evaluate {

// The settings of a variant that were compiled for a CPU, in one type.
class SourceKnobs {
 public:
  // Whether a candidate has the source knobs of one that was added.
  bool know(const spec::Candidate& candidate) const { return knobs_.count(text_of(candidate)) > 0; }

  // Where there is no objcopy, nothing is compared.
  void add(const spec::Candidate& candidate, const devices::Artifact& artifact) {
    static const bool has_objcopy = base::run_process({"objcopy", "--version"}, 10).ok();
    if (!artifact.ok || !has_objcopy || !knobs_.insert(text_of(candidate)).second) return;
    // Code and constants alone: the names of functions may hold the values of knobs.
    const std::string code = folder_ / "code";
    const auto copied = base::run_process(
        {"objcopy", "-O", "binary", "-j", ".text*", "-j", ".rodata*", artifact.path.string(), code},
        10);
    EXPECT_TRUE(copied.ok()) << copied.output;
    objects_.insert(base::read_file(code, "test"));
  }

  // A compiler unrolls some loops alike for several values: one setting in four may have the object
  // of another. With less optimisation than users have it (MLX_KD_KERNEL_OPT) more are alike.
  void expect_that_they_change_the_object(const std::string& variant) const {
    if (devices::cpu::optimisation_flags().front() != "-O3") return;
    EXPECT_GE(4 * objects_.size(), 3 * knobs_.size()) << variant;
  }

 private:
  static std::string text_of(const spec::Candidate& candidate) {
    std::string text;
    for (const auto& [name, value] : candidate.knobs.items())
      if (!candidate.launch_params.contains(name)) text += name + "=" + std::to_string(value) + ",";
    return text;
  }

  tests::TempDir folder_;
  std::set<std::string> knobs_, objects_;
};

}  // namespace mlx_kd::evaluate
