// What the terminal can show.
#pragma once

#include <string>
#include <vector>

namespace mlx_kd::cli {

// Whether to redraw a line in place on stderr: it is a terminal that can move its cursor.
bool stderr_is_live();

// Columns of the terminal on stderr; 80 where it is none.
int stderr_columns();

// A table for people: columns aligned (numbers to the right), two blanks between, header first.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// Writes to stdout; a closed pipe (EPIPE) is not an error of ours.
void print(const std::string& text);

std::string fixed(double value, int digits);  // "3.14"; "-" for NaN
std::string times(double ratio);              // "12.3x"
std::string duration(double seconds);         // "7 s", "1 min 05 s"

}  // namespace mlx_kd::cli
