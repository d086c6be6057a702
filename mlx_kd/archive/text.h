// Numbers and foreign texts as reports write them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mlx_kd/spec/verdict.h"

namespace mlx_kd::archive {

// For HTML text and attributes: no text of a run can open a tag or leave its quotes. Control
// characters but "\n" and "\t" become spaces.
std::string escape_html(const std::string& text);

// A Markdown code span that neither its text nor a table's bars can break: one line, no backtick.
std::string markdown_code(const std::string& text);

// For a terminal: control characters (escape sequences too) become spaces.
std::string plain_line(const std::string& text);

// Three significant digits without an exponent where that is readable: "0.0123", "12.3", "1230",
// "2.4e-07"; "-" if not finite.
std::string number(double value, int digits = 3);

std::string ratio(double value);                          // "2.41x", "-"
std::string interval(double lo, double hi);               // "[2.30, 2.52]", "-"
std::string range(double lo, double hi, int digits = 3);  // "[131, 142]", "-"
std::string joined(const base::Json& value);              // a text as it is, a list with commas
std::string percent(double share);                        // "12.3 %"
std::string percent_change(double factor);                // "+12.3 %" for 1.123

// Columns of a table for a terminal; numbers are aligned right, everything else left.
std::string aligned(const std::vector<std::vector<std::string>>& rows);

// The time that a metric is ranked by: kernel_us, else latency_us.
double ranking_time_us(const spec::Metrics& metrics);

}  // namespace mlx_kd::archive
