// The report of a run: a pure function of its records, written again whenever one asks.
#pragma once

#include <filesystem>
#include <string>

#include "mlx_kd/archive/run/run_data.h"

namespace mlx_kd::archive {

// report.md: header, top 10 by latency of each size, Pareto frontier, knob notes, failures, noise,
// where the time went. All text from the run is escaped.
std::string report_markdown(const RunData& run);

// report.html: the same with charts; one file that loads nothing, light and dark, any width.
std::string report_html(const RunData& run);

// A few lines for a terminal: for each size the winner, how much faster than MLX, with the 95% CI.
std::string report_table(const RunData& run);

// The same for a program: {op_name, ..., sizes: [{shape, winner, metrics}], failures, knobs, ...}.
base::Json report_json(const RunData& run);

// Writes report.md and report.html into dir, each atomically. Fails (exit 1) on a full disk, the
// old ones left as they were.
void write_report(const std::filesystem::path& dir, const RunData& run);

}  // namespace mlx_kd::archive
