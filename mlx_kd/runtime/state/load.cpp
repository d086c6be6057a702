#include "mlx_kd/runtime/state/load.h"

#include "mlx_kd/base/log_once.h"
#include "mlx_kd/runtime/state/environment.h"
#include "mlx_kd/runtime/state/trust.h"

namespace mlx_kd::runtime {
namespace {

void say_what_is_odd(const Table& table, const std::string& path) {
  if (!table.pins().empty() || table.skipped().empty()) return;
  const Skipped& first = table.skipped().front();
  base::log_once("runtime", "none of the " + std::to_string(table.skipped().size()) +
                                " entries of " + path + " can be used here; the first, " +
                                first.title + ": " + first.reason);
}

}  // namespace

std::shared_ptr<const Table> load_table(Effective& wanted) {
  const bool shipped = wanted.path == "shipped";
  if (shipped) wanted.files = shipped_packs();
  std::vector<packs::Pack> packs;
  for (const std::string& file : wanted.files) {
    packs.push_back(packs::parse_pack(trusted_text(file, wanted.trust), file));
    if (packs.back().schema == 1)
      base::log_once(
          "runtime",
          file +
              " is of schema 1: 'unknown' in its keys, and an empty shape_signature, match "
              "anything; kd pack writes it again");
  }
  auto table = std::make_shared<const Table>(packs, wanted.allow_approximate);
  if (!shipped) say_what_is_odd(*table, wanted.path);
  return table;
}

}  // namespace mlx_kd::runtime
