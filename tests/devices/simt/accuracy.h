// The accuracy that Metal promises for its math functions: tables 8.1 (precise), 8.2 (fast) and 8.3
// (half) of the Metal Shading Language specification, version 4, section 8.4. One list, for every
// way in which a Metal kernel runs.
#pragma once

#include <functional>
#include <string>

#include "mlx_kd/devices/simt/checks/session.h"

namespace mlx_kd::devices::simt {

enum class AccuracyTable { precise, fast, half };

// One kernel a function of the table.
std::string accuracy_source(AccuracyTable table);

// Expects the results of every function of the table, as `run` computes them, to lie within its
// bound of what float64 says.
void check_accuracy(AccuracyTable table, const std::function<void(MslRequest&)>& run);

}  // namespace mlx_kd::devices::simt
