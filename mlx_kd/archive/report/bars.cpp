#include "mlx_kd/archive/report/bars.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "mlx_kd/archive/report/svg.h"
#include "mlx_kd/archive/text.h"

namespace mlx_kd::archive {
namespace {

constexpr double kWidth = 440, kSide = 8, kPitch = 42, kBarTop = 20, kBarHeight = 12;

double largest(const std::vector<Bar>& bars, double mark) {
  double result = std::isfinite(mark) ? mark : 0;
  for (const Bar& bar : bars) result = std::fmax(result, std::fmax(bar.value, bar.hi));
  return result > 0 ? result : 1;
}

std::string whisker(double x1, double x2, double y) {
  std::string text;
  for (const auto& [a, b, c, d] :
       {std::array<double, 4>{x1, x2, y, y}, {x1, x1, y - 5, y + 5}, {x2, x2, y - 5, y + 5}})
    text +=
        "<line class=\"whisker\"" + px("x1", a) + px("x2", b) + px("y1", c) + px("y2", d) + "/>";
  return text + "\n";
}

std::string drawn(const Bar& bar, double top, double scale) {
  std::string text = "<text" + px("x", kSide) + px("y", top + 14) + ">" + escape_html(bar.label) +
                     "</text><text class=\"strong\"" + px("x", kWidth - kSide) + px("y", top + 14) +
                     " text-anchor=\"end\">" + escape_html(bar.text) + "</text>\n";
  text += "<rect class=\"track\" rx=\"3\"" + px("x", kSide) + px("y", top + kBarTop) +
          px("width", kWidth - 2 * kSide) + px("height", kBarHeight) + "/>\n";
  if (!std::isfinite(bar.value)) return text;
  text += "<rect rx=\"3\" class=\"" + bar.style + "\"" + px("x", kSide) + px("y", top + kBarTop) +
          px("width", std::max(1.0, bar.value * scale)) + px("height", kBarHeight) + "><title>" +
          escape_html(bar.label + ": " + bar.text) + "</title></rect>\n";
  if (std::isfinite(bar.lo) && std::isfinite(bar.hi))
    text += whisker(kSide + bar.lo * scale, kSide + bar.hi * scale, top + kBarTop + kBarHeight / 2);
  return text;
}

}  // namespace

std::string bar_chart(const std::string& name, const std::vector<Bar>& bars, double mark,
                      double full) {
  if (bars.empty()) return "";
  const double height = kPitch * static_cast<double>(bars.size()) + 6;
  const double scale = (kWidth - 2 * kSide) / std::max(full, 1.02 * largest(bars, mark));
  std::string text = "<svg viewBox=\"0 0 440 " + std::to_string(static_cast<int>(height)) +
                     "\" role=\"img\" aria-label=\"" + escape_html(name) + "\">\n";
  double top = 0;
  for (const Bar& bar : bars) {
    text += drawn(bar, top, scale);
    if (std::isfinite(mark))
      text += "<line class=\"mark\"" + px("x1", kSide + mark * scale) +
              px("x2", kSide + mark * scale) + px("y1", top + kBarTop - 2) +
              px("y2", top + kBarTop + kBarHeight + 2) + "/>\n";
    top += kPitch;
  }
  return text + "</svg>\n";
}

}  // namespace mlx_kd::archive
