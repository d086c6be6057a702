// What the terminal can show.
#pragma once

#include <string>

namespace mlx_kd::cli {

// Whether to redraw a line in place on stderr: it is a terminal that can move its cursor.
bool stderr_is_live();

// Columns of the terminal on stderr; 80 where it is none.
int stderr_columns();

// Writes to stdout. A closed pipe is not our error; a full disk is (exit 1).
void print(const std::string& text);

std::string fixed(double value, int digits);  // "3.14"; "-" for NaN
std::string times(double ratio);              // "12.3x"
std::string duration(double seconds);         // "7 s", "1 min 05 s"

// Seconds of a --time-budget: "60", "60s", "5m", "1h". Misuse for anything else, and for 0.
double parse_duration(const std::string& text);

}  // namespace mlx_kd::cli
