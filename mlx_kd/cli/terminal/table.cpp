#include "mlx_kd/cli/terminal/table.h"

#include <algorithm>

namespace mlx_kd::cli {
namespace {

std::string printable(std::string cell) {
  for (char& c : cell)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return cell;
}

// Columns on the terminal: bytes that do not continue a UTF-8 character.
size_t width(const std::string& cell) {
  return static_cast<size_t>(
      std::count_if(cell.begin(), cell.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

// "3", "3.14", "3.1x", or "-" for nothing.
bool is_number(const std::string& cell) {
  return cell == "-" ||
         (!cell.empty() && cell.find_first_not_of("0123456789.x") == std::string::npos);
}

}  // namespace

std::string table_text(const std::vector<std::vector<std::string>>& rows) {
  const size_t columns = rows.empty() ? 0 : rows[0].size();
  std::vector<size_t> widths(columns);
  std::vector<bool> numeric(columns, true);
  for (size_t r = 0; r < rows.size(); ++r)
    for (size_t i = 0; i < columns; ++i) {
      widths[i] = std::max(widths[i], width(rows[r][i]));
      numeric[i] = numeric[i] && (r == 0 || is_number(rows[r][i]));
    }
  std::string result;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < columns; ++i) {
      const std::string padding(widths[i] - width(row[i]), ' ');
      line += (i ? "  " : "") +
              (numeric[i] ? padding + printable(row[i]) : printable(row[i]) + padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    result += line + "\n";
  }
  return result;
}

std::string counted(size_t count, const std::string& one, const std::string& many) {
  return std::to_string(count) + " " + (count == 1 ? one : many);
}

}  // namespace mlx_kd::cli
