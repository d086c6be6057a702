// kd doctor: what this machine can do, and what to do about the rest. Exit 1 if something needed is
// missing.
#include "mlx_kd/devices/doctor.h"

#include <algorithm>
#include <cstdio>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/base/version.h"
#include "mlx_kd/cli/verbs.h"

namespace mlx_kd::cli {
namespace {

void print_json(const std::vector<devices::Finding>& findings) {
  base::OrderedJson list = base::OrderedJson::array();
  for (const auto& finding : findings)
    list.push_back({{"level", devices::name_of(finding.level)},
                    {"topic", finding.topic},
                    {"text", finding.text},
                    {"advice", finding.advice}});
  std::printf("%s\n", list.dump(2).c_str());
}

void print_lines(const std::vector<devices::Finding>& findings) {
  for (const auto& finding : findings) {
    std::printf("%-4s  %-12s  %s\n", devices::name_of(finding.level).c_str(), finding.topic.c_str(),
                finding.text.c_str());
    if (!finding.advice.empty()) std::printf("%20s-> %s\n", "", finding.advice.c_str());
  }
}

}  // namespace

void add_doctor(CLI::App& app) {
  auto json = std::make_shared<bool>(false);
  CLI::App* verb = app.add_subcommand("doctor", "What this machine can do, and what is missing");
  verb->add_flag("--json", *json, "As JSON");
  verb->callback([json] {
    std::vector<devices::Finding> findings = {{devices::Level::ok, "mlx-kd", base::version(), ""}};
    for (auto& finding : devices::examine_machine()) findings.push_back(std::move(finding));
    *json ? print_json(findings) : print_lines(findings);
    const bool failed = std::any_of(findings.begin(), findings.end(), [](const auto& finding) {
      return finding.level == devices::Level::fail;
    });
    if (failed)
      base::fail("cli", "something that is needed is missing: see the lines that say fail");
  });
}

}  // namespace mlx_kd::cli
