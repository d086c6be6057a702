// kd cache: the compiled kernels on disk.
#include <cstdio>

#include "mlx_kd/base/json.h"
#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/devices/host/object_cache.h"

namespace mlx_kd::cli {
namespace {

struct CacheOptions {
  bool clear = false, json = false;
};

}  // namespace

void add_cache(CLI::App& app) {
  auto options = std::make_shared<CacheOptions>();
  CLI::App* verb = app.add_subcommand("cache", "Where compiled kernels lie, and how many");
  verb->add_flag("--clear", options->clear, "Remove them all");
  verb->add_flag("--json", options->json, "As JSON");
  verb->callback([options] {
    const auto cache = devices::cpu::ObjectCache::from_environment();
    const auto usage = options->clear ? cache.clear() : cache.usage();
    const char* place = cache.folder().c_str();
    const long long entries = usage.entries, bytes = usage.bytes;
    if (options->json) {
      const base::OrderedJson report = {{"place", place},
                                        {options->clear ? "removed_entries" : "entries", entries},
                                        {options->clear ? "removed_bytes" : "bytes", bytes},
                                        {"max_bytes", cache.max_bytes()}};
      std::printf("%s\n", report.dump(2).c_str());
    } else if (options->clear) {
      std::printf("%s: removed %lld kernels, %lld bytes\n", place, entries, bytes);
    } else {
      std::printf("%s: %lld kernels, %lld bytes, at most %lld\n", place, entries, bytes,
                  static_cast<long long>(cache.max_bytes()));
    }
  });
}

}  // namespace mlx_kd::cli
