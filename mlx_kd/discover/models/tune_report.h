// What a tuning found, for people and programs.
#pragma once

#include <string>

#include "mlx_kd/discover/models/tune_model.h"

namespace mlx_kd::discover {

// {model, device, dtype, rows, prompt, seconds, decode: {before_us, after_us}, prompt_pass:
// {tokens, before_us, after_us}, uses: [{op, name, pass, calls, size, ...}], without: [...],
// model_code: {not_run, differences: [...]}}.
base::Json tune_report_json(const TuneRequest& request, const TuneOutcome& outcome);

// One file that loads nothing: where the time of a token and of a prompt goes with MLX, and with
// the pins, as bars on one scale; a table of all uses.
std::string tune_report_html(const TuneRequest& request, const TuneOutcome& outcome);

}  // namespace mlx_kd::discover
