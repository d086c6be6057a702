#include "mlx_kd/devices/metal_text/translated_text.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/msl/parse/parser.h"
#include "mlx_kd/msl/rules/rules.h"

namespace mlx_kd::devices {

const msl::Kernel& TranslatedText::kernel(const std::string& name) const {
  for (const msl::Kernel& one : made.kernels)
    if (one.name == name) return one;
  base::fail("devices", unit.sources->name(unit.file) + " has no kernel '" + name + "'");
}

TranslatedText translate_text(const MetalText& text, msl::Target target,
                              const msl::TranslateOptions& options) {
  TranslatedText result{
      msl::parse(text.file, text.text, text.options), {}, options.function_constants};
  msl::require_rules(result.unit);
  result.made = msl::translate(result.unit, target, options);
  return result;
}

}  // namespace mlx_kd::devices
