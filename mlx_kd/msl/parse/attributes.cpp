#include "mlx_kd/msl/parse/attributes.h"

#include <set>

namespace mlx_kd::msl {

const std::vector<ThreadAttribute>& thread_attributes() {
  static const std::vector<ThreadAttribute> list = {
      {"dispatch_quadgroups_per_threadgroup"},
      {"dispatch_simdgroups_per_threadgroup"},
      {"dispatch_threads_per_threadgroup", true},
      {"grid_origin", true},
      {"grid_size", true},
      {"quadgroup_index_in_threadgroup"},
      {"quadgroups_per_threadgroup"},
      {"simdgroup_index_in_threadgroup"},
      {"simdgroups_per_threadgroup"},
      {"thread_execution_width"},
      {"thread_index_in_quadgroup"},
      {"thread_index_in_simdgroup"},
      {"thread_index_in_threadgroup"},
      {"thread_position_in_grid", true},
      {"thread_position_in_threadgroup", true},
      {"threadgroup_position_in_grid", true},
      {"threadgroups_per_grid", true},
      {"threads_per_grid", true},
      {"threads_per_simdgroup"},
      {"threads_per_threadgroup", true},
  };
  return list;
}

const ThreadAttribute* find_thread_attribute(std::string_view name) {
  for (const ThreadAttribute& one : thread_attributes())
    if (one.name == name) return &one;
  return nullptr;
}

Known known_attribute(std::string_view name) {
  static const std::set<std::string_view> plain = {"kernel",
                                                   "buffer",
                                                   "threadgroup",
                                                   "host_name",
                                                   "function_constant",
                                                   "maybe_unused",
                                                   "clang::always_inline",
                                                   "clang::noinline",
                                                   "nodiscard",
                                                   "always_inline",
                                                   "gnu::always_inline",
                                                   "fallthrough",
                                                   "deprecated",
                                                   "max_total_threads_per_threadgroup",
                                                   "likely",
                                                   "unlikely",
                                                   "required_threads_per_threadgroup"};
  static const std::set<std::string_view> graphics = {
      "vertex",    "fragment",        "mesh",
      "object",    "texture",         "sampler",
      "color",     "position",        "stage_in",
      "visible",   "stitchable",      "intersection",
      "id",        "payload",         "user",
      "vertex_id", "instance_id",     "patch",
      "tile",      "imageblock_data", "raster_order_group",
      "attribute", "point_size",      "early_fragment_tests"};
  const bool other = name.substr(0, 7) == "clang::" || name.substr(0, 5) == "gnu::";
  if (plain.count(name) || find_thread_attribute(name) || other) return Known::yes;
  return graphics.count(name) ? Known::unsupported : Known::no;
}

namespace {

// "4", "4x4": the size of a vector or a matrix.
bool is_size(std::string_view text) {
  const auto digit = [](char c) { return c >= '2' && c <= '4'; };
  if (text.size() == 1) return digit(text[0]);
  return text.size() == 3 && digit(text[0]) && text[1] == 'x' && digit(text[2]);
}

}  // namespace

bool is_value_type(std::string_view name) {
  static const std::set<std::string_view> scalars = {
      "bool",     "char",     "uchar",   "short",    "ushort",    "int",      "uint",
      "long",     "ulong",    "half",    "bfloat",   "float",     "size_t",   "ptrdiff_t",
      "int8_t",   "uint8_t",  "int16_t", "uint16_t", "int32_t",   "uint32_t", "int64_t",
      "uint64_t", "unsigned", "signed",  "vec",      "bfloat16_t"};
  if (scalars.count(name)) return true;
  if (name.substr(0, 7) == "packed_") name.remove_prefix(7);
  for (const std::string_view scalar : scalars)
    if (name.substr(0, scalar.size()) == scalar && is_size(name.substr(scalar.size()))) return true;
  return false;
}

}  // namespace mlx_kd::msl
