// kd devices: what kernels can run on here.
#include <cstdio>

#include "mlx_kd/base/json.h"
#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/devices/device.h"

namespace mlx_kd::cli {
namespace {

base::OrderedJson to_json(const devices::DeviceReport& report) {
  base::OrderedJson value = {
      {"kind", report.kind}, {"available", report.available}, {"detail", report.detail}};
  if (!report.available) return value;
  const spec::DeviceId id = devices::open_device(report.kind)->id();
  value["arch"] = id.arch;
  value["name"] = id.name;
  value["target"] = id.target;
  value["vector_bytes"] = id.traits.vector_bytes;
  value["l1_bytes"] = id.traits.l1_bytes;
  value["l2_bytes"] = id.traits.l2_bytes;
  value["l3_bytes"] = id.traits.l3_bytes;
  return value;
}

void list_devices(bool json) {
  base::OrderedJson list = base::OrderedJson::array();
  for (const auto& report : devices::list_devices()) {
    if (json)
      list.push_back(to_json(report));
    else
      std::printf("%-6s  %-3s  %s\n", report.kind.c_str(), report.available ? "yes" : "no",
                  report.detail.c_str());
  }
  if (json) std::printf("%s\n", list.dump(2).c_str());
}

}  // namespace

void add_devices(CLI::App& app) {
  auto json = std::make_shared<bool>(false);
  CLI::App* verb = app.add_subcommand("devices", "What kernels can run on here");
  verb->add_flag("--json", *json, "As JSON");
  verb->callback([json] { list_devices(*json); });
}

}  // namespace mlx_kd::cli
