// os_log of <metal_logging>: what it is given goes nowhere here.
#pragma once

namespace metal {

enum os_log_type { os_log_type_debug, os_log_type_info, os_log_type_default, os_log_type_error, os_log_type_fault };
struct os_log {
  KD_FN constexpr os_log(const char*, const char*) {}
  template <class... A>
  KD_FN void log(const char*, A...) const {}
  template <class... A>
  KD_FN void log_debug(const char*, A...) const {}
  template <class... A>
  KD_FN void log_info(const char*, A...) const {}
  template <class... A>
  KD_FN void log_error(const char*, A...) const {}
  template <class... A>
  KD_FN void log_fault(const char*, A...) const {}
  template <class... A>
  KD_FN void log_with_type(os_log_type, const char*, A...) const {}
};
static constexpr os_log os_log_default("", "");

}  // namespace metal
