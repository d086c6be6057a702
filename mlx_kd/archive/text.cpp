#include "mlx_kd/archive/text.h"

#include <algorithm>
#include <cstdio>

namespace mlx_kd::archive {
namespace {

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 32 || byte == 127;
}

std::string formatted(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

// Columns that a UTF-8 text takes, near enough: its code points.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

bool looks_numeric(const std::string& text) {
  return !text.empty() && (text[0] == '-' || text[0] == '+' || (text[0] >= '0' && text[0] <= '9'));
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string result;
  for (char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else if (c == '"')
      result += "&quot;";
    else if (c == '\'')
      result += "&#39;";
    else
      result += is_control(c) && c != '\n' && c != '\t' ? ' ' : c;
  }
  return result;
}

std::string plain_line(const std::string& text) {
  std::string result = text;
  std::replace_if(result.begin(), result.end(), is_control, ' ');
  return result;
}

std::string markdown_code(const std::string& text) {
  std::string result = "`";
  for (char c : plain_line(text)) {
    if (c == '|') result += '\\';
    result += c == '`' ? '\'' : c;
  }
  return result.size() == 1 ? "-" : result + "`";
}

std::string number(double value, int digits) {
  if (!std::isfinite(value)) return "-";
  if (value == 0) return "0";
  const int exponent = static_cast<int>(std::floor(std::log10(std::fabs(value))));
  const bool scientific = exponent < -3 || exponent > 6;
  const int decimals = scientific ? digits - 2 : std::max(0, digits - 1 - exponent);
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, scientific ? "%.*e" : "%.*f", decimals, value);
  return buffer;
}

std::string ratio(double value) {
  return std::isfinite(value) ? formatted("%.2fx", value) : "-";
}

std::string interval(double lo, double hi) {
  if (!std::isfinite(lo) || !std::isfinite(hi)) return "-";
  return "[" + formatted("%.2f", lo) + ", " + formatted("%.2f", hi) + "]";
}

std::string range(double lo, double hi, int digits) {
  if (!std::isfinite(lo) || !std::isfinite(hi)) return "-";
  return "[" + number(lo, digits) + ", " + number(hi, digits) + "]";
}

std::string joined(const base::Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::string text;
  for (const base::Json& item : value) text += (text.empty() ? "" : ", ") + joined(item);
  return text;
}

std::string percent(double share) {
  return std::isfinite(share) ? formatted("%.1f %%", std::fabs(share) < 5e-4 ? 0.0 : 100 * share)
                              : "-";
}

std::string percent_change(double factor) {
  return std::isfinite(factor) ? formatted("%+.1f %%", 100 * (factor - 1)) : "-";
}

std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) {
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], width_of(row[i]));
    }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string gap(widths[i] - width_of(row[i]), ' ');
      line += (i ? "  " : "") + (looks_numeric(row[i]) ? gap + row[i] : row[i] + gap);
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

double ranking_time_us(const spec::Metrics& metrics) {
  return std::isfinite(metrics.kernel_us) ? metrics.kernel_us : metrics.latency_us;
}

}  // namespace mlx_kd::archive
