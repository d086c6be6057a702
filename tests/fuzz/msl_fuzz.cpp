// rooms: msl
// The front end on any bytes: every input ends in a translation or in a message.
#include <cstdint>
#include <string>

#include "mlx_kd/base/error.h"
#include "mlx_kd/msl/parse/parser.h"
#include "mlx_kd/msl/rules/rules.h"
#include "mlx_kd/msl/translate/translate.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mlx_kd;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const msl::Unit unit = msl::parse("fuzz.metal", text, {});
    for (const msl::Diagnostic& one : msl::check_rules(unit))
      if (msl::describe(*unit.sources, one).empty()) __builtin_trap();
    msl::translate(unit, msl::Target::cpp, {});
    msl::translate(unit, msl::Target::cuda, {});
  } catch (const base::Error&) {
  }
  return 0;
}
