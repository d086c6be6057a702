// A Metal text on its way to a device: read, checked and translated.
#pragma once

#include <string>

#include "mlx_kd/devices/metal_text/metal_source.h"
#include "mlx_kd/msl/parse/unit.h"
#include "mlx_kd/msl/translate/translate.h"

namespace mlx_kd::devices {

struct TranslatedText {
  msl::Unit unit;
  msl::Translation made;
  std::map<int, std::string> values;  // of its function constants

  // The kernel of that host name. Fails (exit 1) if the text has none.
  const msl::Kernel& kernel(const std::string& name) const;
};

// The one way from a text to its translation: candidates, calls of metal_kernel and kd msl run come
// through here on every device. Misuse, with the place in the text, for what is not valid Metal.
TranslatedText translate_text(const MetalText& text, msl::Target target,
                              const msl::TranslateOptions& options = {});

}  // namespace mlx_kd::devices
