#include "mlx_kd/runtime/state/load.h"

#include <future>

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

namespace {

std::shared_ptr<const Table> read_table(Effective& wanted) {
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

}  // namespace

// On a thread of its own, which has a heap of its own: what parsing leaves in pieces would be in
// the way of the program's next allocations (with 10,000 pins, 70 ns an operation of a graph).
std::shared_ptr<const Table> load_table(Effective& wanted) {
  return std::async(std::launch::async, [&] { return read_table(wanted); }).get();
}

}  // namespace mlx_kd::runtime
