// Tables for a terminal.
#pragma once

#include <string>
#include <vector>

namespace mlx_kd::cli {

// Rows of equally many cells, the heading first: columns two spaces apart, columns of
// numbers flush right and others left, one line per row, no blanks at line ends. Control characters
// of cells, which may come from a file, are shown as "?".
std::string table_text(const std::vector<std::vector<std::string>>& rows);

// "1 entry", "2 entries".
std::string counted(size_t count, const std::string& one, const std::string& many);

}  // namespace mlx_kd::cli
