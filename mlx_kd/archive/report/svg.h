// Charts as inline SVG: scales, axes, marks. Colours come from the classes of report_style.h, so
// that light and dark are a matter of CSS.
#pragma once

#include <string>
#include <vector>

namespace mlx_kd::archive {

// Maps values to pixels, linearly or by logarithm.
struct Scale {
  double lo, hi;  // values, lo < hi (both > 0 if log)
  bool log = false;
  double px_lo = 0, px_hi = 1;  // set by Plot

  double operator()(double value) const;
  std::vector<double> ticks(int about) const;  // round values within [lo, hi]
};

// Widened by 4 % so that no mark sits on an axis; a single value gets room round it.
Scale scale_over(const std::vector<double>& values, bool log = false);

// One chart. Marks are drawn in the order they are added, inside the axes.
class Plot {
 public:
  // `name` says what the chart shows to those who cannot see it. Labels are plain text.
  Plot(const std::string& name, Scale x, Scale y, const std::string& x_label,
       const std::string& y_label, double width = 440, double height = 300);

  double x(double value) const { return x_(value); }
  double y(double value) const { return y_(value); }

  // A circle; `colour` is a CSS class ("c1") or a colour that starts with "#".
  void dot(double x, double y, double radius, const std::string& colour, const std::string& tip);
  // Straight lines through the points; `style` is a CSS class.
  void line(const std::vector<std::pair<double, double>>& points, const std::string& style);
  void horizontal(double y, const std::string& label);
  void hide_axes() { axes_ = false; }  // where the axes have no unit
  std::string svg() const;

 private:
  std::string axes() const;
  std::string name_, x_label_, y_label_;
  double width_, height_;
  Scale x_, y_;
  bool axes_ = true;
  std::string marks_;
};

// "x=\"12.3\"" with one decimal: what SVG attributes need.
std::string px(const char* attribute, double value);

// Cividis (Nunez, Anderton, Renslow 2018, PLoS ONE 13(7)), a ramp that looks the same to those who
// see fewer colours: share 0 dark blue, 1 yellow.
std::string ramp_colour(double share);

}  // namespace mlx_kd::archive
