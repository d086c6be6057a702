#include "mlx_kd/archive/report/svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "mlx_kd/archive/text.h"

namespace mlx_kd::archive {
namespace {

constexpr double kLeft = 58, kRight = 14, kTop = 14, kBottom = 44;

std::vector<double> linear_ticks(double lo, double hi, int about) {
  const double raw = (hi - lo) / about;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  const double share = raw / power;
  const double step = power * (share > 5 ? 10 : share > 2 ? 5 : share > 1 ? 2 : 1);
  std::vector<double> ticks;
  for (double tick = std::ceil(lo / step); tick * step <= hi; tick += 1)
    ticks.push_back(tick * step);
  return ticks;
}

// 1, 2, 5 of each power of ten; powers alone where that is too many.
std::vector<double> log_ticks(double lo, double hi, int about) {
  std::vector<double> ticks;
  for (const bool powers_alone : {false, true}) {
    ticks.clear();
    for (int power = static_cast<int>(std::floor(std::log10(lo))); std::pow(10, power) <= hi;
         ++power)
      for (double digit : {1.0, 2.0, 5.0}) {
        const double tick = digit * std::pow(10, power);
        if (tick >= lo && tick <= hi && (digit == 1 || !powers_alone)) ticks.push_back(tick);
      }
    if (static_cast<int>(ticks.size()) <= about + 2) break;
  }
  return ticks;
}

std::string tick_text(double tick) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.4g", std::fabs(tick) < 1e-12 ? 0.0 : tick);
  return buffer;
}

std::string text_at(double x, double y, const char* anchor, const std::string& text) {
  return "<text" + px("x", x) + px("y", y) + " text-anchor=\"" + anchor + "\">" +
         escape_html(text) + "</text>";
}

std::string grid_line(double x1, double y1, double x2, double y2, const char* style) {
  return "<line class=\"" + std::string(style) + "\"" + px("x1", x1) + px("y1", y1) + px("x2", x2) +
         px("y2", y2) + "/>";
}

}  // namespace

std::string px(const char* attribute, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, " %s=\"%.1f\"", attribute, value);
  return buffer;
}

double Scale::operator()(double value) const {
  const double share = log ? (std::log(value) - std::log(lo)) / (std::log(hi) - std::log(lo))
                           : (value - lo) / (hi - lo);
  return px_lo + share * (px_hi - px_lo);
}

std::vector<double> Scale::ticks(int about) const {
  return log && hi > 8 * lo ? log_ticks(lo, hi, about) : linear_ticks(lo, hi, about);
}

Scale scale_over(const std::vector<double>& values, bool log) {
  double lo = 1, hi = 1;
  if (!values.empty()) {
    lo = *std::min_element(values.begin(), values.end());
    hi = *std::max_element(values.begin(), values.end());
  }
  if (log) {
    const double room = hi > lo ? std::pow(hi / lo, 0.04) : 1.5;
    return {lo / room, hi * room, true};
  }
  const double room = hi > lo ? 0.04 * (hi - lo) : std::max(1e-12, 0.5 * std::fabs(hi));
  return {lo - room, hi + room, false};
}

Plot::Plot(const std::string& name, Scale x, Scale y, const std::string& x_label,
           const std::string& y_label, double width, double height)
    : name_(name),
      x_label_(x_label),
      y_label_(y_label),
      width_(width),
      height_(height),
      x_(x),
      y_(y) {
  x_.px_lo = kLeft;
  x_.px_hi = width - kRight;
  y_.px_lo = height - kBottom;
  y_.px_hi = kTop;
}

void Plot::dot(double x, double y, double radius, const std::string& colour,
               const std::string& tip) {
  const std::string paint =
      colour[0] == '#' ? " class=\"dot\" fill=\"" + colour + "\"" : " class=\"dot " + colour + "\"";
  marks_ += "<circle" + paint + px("cx", x_(x)) + px("cy", y_(y)) + px("r", radius) + "><title>" +
            escape_html(tip) + "</title></circle>\n";
}

void Plot::line(const std::vector<std::pair<double, double>>& points, const std::string& style) {
  std::string list;
  char buffer[64];
  for (const auto& [x, y] : points) {
    std::snprintf(buffer, sizeof buffer, "%.1f,%.1f ", x_(x), y_(y));
    list += buffer;
  }
  marks_ += "<polyline class=\"" + style + "\" points=\"" + list + "\"/>\n";
}

void Plot::horizontal(double y, const std::string& label) {
  marks_ += grid_line(x_.px_lo, y_(y), x_.px_hi, y_(y), "mark");
  marks_ += text_at(x_.px_hi, y_(y) - 4, "end", label);
}

std::string Plot::axes() const {
  std::string text;
  for (double tick : y_.ticks(5)) {
    text += grid_line(x_.px_lo, y_(tick), x_.px_hi, y_(tick), "grid");
    text += text_at(x_.px_lo - 6, y_(tick) + 4, "end", tick_text(tick));
  }
  for (double tick : x_.ticks(5)) {
    text += grid_line(x_(tick), y_.px_lo, x_(tick), y_.px_lo + 4, "axis");
    text += text_at(x_(tick), y_.px_lo + 18, "middle", tick_text(tick));
  }
  return text + grid_line(x_.px_lo, y_.px_lo, x_.px_hi, y_.px_lo, "axis");
}

std::string Plot::svg() const {
  char box[64];
  std::snprintf(box, sizeof box, "0 0 %.0f %.0f", width_, height_);
  const double middle_y = (y_.px_lo + y_.px_hi) / 2;
  char turn[64];
  std::snprintf(turn, sizeof turn, "<g transform=\"rotate(-90 14 %.1f)\">", middle_y);
  return "<svg viewBox=\"" + std::string(box) + "\" role=\"img\" aria-label=\"" +
         escape_html(name_) + "\">\n" + (axes_ ? axes() : "") + "\n" + marks_ +
         text_at((x_.px_lo + x_.px_hi) / 2, height_ - 8, "middle", x_label_) + turn +
         text_at(14, middle_y, "middle", y_label_) + "</g>\n</svg>\n";
}

std::string ramp_colour(double share) {
  static constexpr std::array<std::array<int, 3>, 6> kStops = {{{0, 34, 78},
                                                                {53, 69, 108},
                                                                {102, 105, 112},
                                                                {148, 142, 119},
                                                                {200, 184, 102},
                                                                {254, 232, 56}}};
  const double at = std::clamp(share, 0.0, 1.0) * (kStops.size() - 1);
  const size_t low = std::min<size_t>(static_cast<size_t>(at), kStops.size() - 2);
  int rgb[3];
  for (int i = 0; i < 3; ++i)
    rgb[i] = static_cast<int>(std::lround(
        kStops[low][i] + (at - static_cast<double>(low)) * (kStops[low + 1][i] - kStops[low][i])));
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "#%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
  return buffer;
}

}  // namespace mlx_kd::archive
