// What the checker found, as a person reads it.
#pragma once

#include <string>

#include "mlx_kd/devices/metal_text/translated_text.h"
#include "mlx_kd/devices/simt/executor/checker.h"
#include "mlx_kd/devices/simt/program/module.h"

namespace mlx_kd::devices::simt {

// One line, with the places in the Metal text: "k.metal:12: data race: thread 3 of ...". `module`
// was compiled from the text for checks.
std::string describe(const Finding& finding, const TranslatedText& text, const Module& module);

}  // namespace mlx_kd::devices::simt
