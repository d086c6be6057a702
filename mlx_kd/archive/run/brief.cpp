// The text is walked once: members that are not asked for are skipped by their brackets and quotes.
#include "mlx_kd/archive/run/brief.h"

#include <charconv>
#include <type_traits>

#include "mlx_kd/base/error.h"

namespace mlx_kd::archive {
namespace {

using base::Json;

[[noreturn]] void refuse_brief(const std::string& why) {
  base::misuse("archive", why);
}

// Walks the members of an object, or the elements of a list, whose text begins at the bracket.
class Parts {
 public:
  explicit Parts(std::string_view text) : text_(text) {
    skip_blanks();
    if (at_ >= text_.size() || (text_[at_] != '{' && text_[at_] != '['))
      refuse_brief("neither an object nor a list");
    is_object_ = text_[at_++] == '{';
  }

  bool is_object() const { return is_object_; }

  // The next one; false behind the last.
  bool next() {
    skip_blanks();
    if (here() == ',') ++at_, skip_blanks();
    if (here() == (is_object_ ? '}' : ']')) return false;
    if (is_object_) {
      key_ = value_text();
      skip_blanks();
      if (key_.size() < 2 || key_[0] != '"' || here() != ':') refuse_brief("a member has no name");
      key_ = key_.substr(1, key_.size() - 2);
      ++at_, skip_blanks();
    }
    value_ = value_text();
    return true;
  }

  std::string_view key() const { return key_; }
  std::string name() const {  // the key as it reads
    if (key_.find('\\') == key_.npos) return std::string(key_);
    return Json::parse("\"" + std::string(key_) + "\"").get<std::string>();
  }
  std::string_view value() const { return value_; }

 private:
  char here() const {
    if (at_ >= text_.size()) refuse_brief("it ends too soon");
    return text_[at_];
  }

  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }

  void skip_string() {
    const size_t begin = at_ + 1;
    do {
      at_ = text_.find('"', at_ + 1);
      if (at_ == text_.npos) refuse_brief("it ends too soon");
    } while (is_escaped(begin));
    ++at_;
  }

  // An odd number of backslashes before it, none before `begin`.
  bool is_escaped(size_t begin) const {
    size_t first = at_;
    while (first > begin && text_[first - 1] == '\\') --first;
    return (at_ - first) % 2 != 0;
  }

  std::string_view value_text() {
    const size_t begin = at_;
    if (here() == '"') {
      skip_string();
    } else if (text_[at_] == '{' || text_[at_] == '[') {
      skip_brackets();
    } else {
      while (at_ < text_.size() && std::string_view(",]} \t").find(text_[at_]) == text_.npos) ++at_;
    }
    if (at_ == begin) refuse_brief("a value is missing");
    return text_.substr(begin, at_ - begin);
  }

  void skip_brackets() {
    for (int depth = 0; at_ < text_.size();) {
      const char c = text_[at_];
      if (c == '"') {
        skip_string();
        continue;
      }
      ++at_;
      if (c == '{' || c == '[') ++depth;
      if ((c == '}' || c == ']') && --depth == 0) return;
    }
    refuse_brief("it ends too soon");
  }

  std::string_view text_, key_, value_;
  size_t at_ = 0;
  bool is_object_ = false;
};

template <class Number>
Number number_of(std::string_view text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) return number;
  const Json value = Json::parse(text);
  if constexpr (std::is_integral_v<Number>) {
    if (!value.is_number_integer()) refuse_brief(std::string(text) + " is not a whole number");
  }
  return value.get<Number>();
}

bool is_number(std::string_view text) {
  return !text.empty() && (text[0] == '-' || (text[0] >= '0' && text[0] <= '9'));
}

std::string string_of(std::string_view text) {
  if (text.size() >= 2 && text[0] == '"' && text.find('\\') == text.npos)
    return std::string(text.substr(1, text.size() - 2));
  return Json::parse(text).get<std::string>();
}

bool is_object(std::string_view text) {
  return !text.empty() && text[0] == '{';
}

void read_knobs(std::string_view text, spec::Setting& knobs) {
  if (!is_object(text)) return;
  for (Parts parts(text); parts.next();)
    if (is_number(parts.value()) && parts.value().find_first_of(".eE") == std::string_view::npos)
      knobs.set(parts.name(), number_of<int64_t>(parts.value()));
}

void read_sizes(std::string_view text, Brief& brief) {
  for (Parts sizes(text); sizes.next();) {
    double& ratio = brief.log_ratios.emplace_back(spec::kUnmeasured);
    double& kernel_us = brief.kernel_us.emplace_back(spec::kUnmeasured);
    double& latency_us = brief.latency_us.emplace_back(spec::kUnmeasured);
    for (Parts metrics(sizes.value()); metrics.next();) {
      const std::string_view key = metrics.key();
      double* const to = key == "log_ratio"    ? &ratio
                         : key == "kernel_us"  ? &kernel_us
                         : key == "latency_us" ? &latency_us
                                               : nullptr;
      if (to && is_number(metrics.value())) *to = number_of<double>(metrics.value());
    }
  }
}

void read_brief_metrics(std::string_view text, Brief& brief) {
  if (!is_object(text)) return;
  for (Parts parts(text); parts.next();) {
    if (parts.key() == "objective") brief.objective = number_of<double>(parts.value());
    if (parts.key() == "per_shape") read_sizes(parts.value(), brief);
  }
}

void read_seconds(std::string_view text, Brief& brief) {
  if (!is_object(text)) return;
  for (Parts parts(text); parts.next();) {
    if (!is_number(parts.value())) continue;
    brief.stages.emplace_back(parts.name(), number_of<double>(parts.value()));
    brief.seconds += brief.stages.back().second;
  }
}

bool names_the_incumbent(std::string_view text) {
  if (!is_object(text)) return false;
  for (Parts parts(text); parts.next();)
    if (parts.key() == "incumbent") return parts.value() == "true";
  return false;
}

// As record_from_json reads it.
spec::Status status_named(std::string_view status, std::string_view event) {
  for (const spec::Status one : spec::all_statuses())
    if (spec::name_of(one) == status) return one;
  return event == "evaluation" ? spec::Status::benchmarked : spec::Status::launch_error;
}

}  // namespace

bool read_brief(std::string_view line, Brief& brief) {
  brief = {};
  brief.language = "metal";
  std::string event, status;
  bool has_event = false, has_id = false;
  for (Parts parts(line); parts.next();) {
    const std::string_view key = parts.key(), value = parts.value();
    if (key == "event") event = string_of(value), has_event = true;
    if (key == "status") status = string_of(value);
    if (key == "step") brief.step = number_of<uint64_t>(value);
    if (key == "candidate_id") brief.candidate_id = string_of(value), has_id = true;
    if (key == "variant") brief.variant = string_of(value);
    if (key == "language") brief.language = string_of(value);
    if (key == "source" || key == "metal_source") brief.has_source = true;
    if (key == "template_params") read_knobs(value, brief.knobs);
    if (key == "metrics") read_brief_metrics(value, brief);
    if (key == "seconds") read_seconds(value, brief);
    if (key == "notes") brief.incumbent = names_the_incumbent(value);
  }
  if (!has_event) refuse_brief("it has no event");
  if (event != "evaluation" && event != "failure") return false;
  if (!has_id) refuse_brief("it has no candidate_id");
  brief.status = status_named(status, event);
  brief.benchmarked = brief.status == spec::Status::benchmarked;
  return true;
}

}  // namespace mlx_kd::archive
