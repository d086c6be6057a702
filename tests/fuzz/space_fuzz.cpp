// rooms: archive
// Tuning caches of any content: a space, or a message.
#include <cstdlib>

#include "mlx_kd/archive/exchange/gzip.h"
#include "mlx_kd/archive/exchange/tuning_cache.h"
#include "mlx_kd/base/error.h"
#include "tests/fuzz/mutations.h"

namespace {

using namespace mlx_kd;
using base::Json;

Json point(const char* method, Json time) {
  return {{"x", 16},
          {"method", method},
          {"time", std::move(time)},
          {"times", {2, 3.5}},
          {"compile_time", 10},
          {"framework_time", 1},
          {"strategy_time", 0},
          {"verification_time", 4}};
}

Json cache() {
  return {{"device_name", "GPU"},
          {"kernel_name", "k"},
          {"objective", "time"},
          {"tune_params_keys", {"x", "method"}},
          {"tune_params", {{"x", {16, 32, 0.5}}, {"method", {"a", "b"}}}},
          {"cache", {{"16,a", point("a", 2.5)}, {"16,b", point("b", "RuntimeFailedConfig")}}}};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text = fuzz::changed(cache(), data, size);
  if (size > 0 && data[size - 1] % 8 == 0) {
    text = archive::gzip(text);
    if (size > 2 && data[size - 2] % 2) text[data[size - 2] * text.size() / 256] ^= 0x55;
  }
  try {
    const archive::TuningCache read = archive::read_tuning_cache(fuzz::write("cache.json", text));
    if (read.points.size() != read.times.size()) std::abort();
    for (size_t i = 0; i < read.points.size(); ++i)
      if (read.points[i].size() != read.points[0].size()) std::abort();
  } catch (const base::Error&) {
  }
  return 0;
}
