// What the system's compiler says about a translation -> what is wrong in the Metal text.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/msl/translate/translate.h"

namespace mlx_kd::msl {

// Places are those of Metal; a message about the prelude names the place that used it.
// Empty if the output holds no error.
std::vector<Diagnostic> read_messages(const std::string& output, const SourceSet& sources,
                                      const Translation& translation);

}  // namespace mlx_kd::msl
