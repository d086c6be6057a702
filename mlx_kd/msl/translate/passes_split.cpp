#include "mlx_kd/msl/parse/attributes.h"
#include "mlx_kd/msl/translate/passes.h"

namespace mlx_kd::msl {
namespace {

constexpr const char* kParameters =
    "(void* const* kd_buffers, void* const* kd_groups, const kd_group* kd_g)";

class SplitWriter {
 public:
  SplitWriter(const Unit& unit, const Function& function, const Split& split, const Edits& edits)
      : unit_(unit),
        function_(function),
        split_(split),
        edits_(edits),
        kernel_(describe_kernel(unit, function, {})) {}

  std::string run() {
    for (uint32_t i = function_.body.first; i < function_.body.last; ++i)
      if (unit_.tokens[i].is("return")) edits_.replace(i, "goto kd_end");
    std::string text = text_of({function_.tokens.first, function_.head});
    text += "KD_KERNEL void kd_split_" + function_.name + kParameters +
            " {\n  (void)kd_buffers, (void)kd_groups;\n";
    for (const Parameter& one : function_.parameters) text += bind(one);
    for (const Range& one : split_.shared) text += text_of(one);
    for (size_t i = 0; i < split_.kept.size(); ++i) text += store_of(i);
    text +=
        "  const auto kd_loops = [&](auto kd_size) KD_INLINED {\n  KD_THREADS(kd_g, kd_size);\n";
    for (size_t i = 0; i < split_.stretches.size(); ++i) text += loop(i);
    return text + "  };\n" + calls() + "}\n";
  }

 private:
  // The loops for a group as wide as the threadgroup's arrays, whose bounds are constants, and for
  // any other.
  std::string calls() const {
    std::string types;
    for (const std::string& name : split_.variables)
      types += (types.empty() ? "kd_" : ", kd_") + name + "_type";
    return "  constexpr unsigned kd_width_ = metal::kd_array_width<" + types +
           ">;\n  if (kd_width_ != 0u && kd_g->size[0] == kd_width_)\n    "
           "kd_loops(metal::kd_constant<kd_width_>{});\n  else\n    "
           "kd_loops(metal::kd_constant<0u>{});\n";
  }

  std::string text_of(Range range) const {
    return range.empty() ? "" : write_range(unit_, edits_, range, Target::cpp);
  }

  static const Attribute* place_of(const Parameter& one) {
    for (const Attribute& attribute : one.attributes)
      if (find_thread_attribute(attribute.name)) return &attribute;
    return nullptr;
  }

  std::string index_of(const Parameter& one) const {
    const bool group = one.space == Space::threadgroup;
    for (const Binding& binding : group ? kernel_.groups : kernel_.buffers)
      if (binding.name == one.name) return (group ? "g" : "b") + std::to_string(binding.index);
    return "b0";
  }

  // What may not be there is not read ahead.
  static bool is_copied(const Parameter& one) {
    return one.reference && one.is_const && !one.attribute("function_constant");
  }

  // What the host binds, read once per group.
  std::string bind(const Parameter& one) const {
    if (place_of(one)) return "";
    const std::string index = index_of(one);
    const std::string from =
        (index[0] == 'g' ? "kd_groups[" : "kd_buffers[") + index.substr(1) + "]";
    if (is_copied(one))
      return "  const " + one.type + " kd_bound_" + index + " = *static_cast<const " + one.type +
             "*>(" + from + ");\n";
    return "  void* const kd_bound_" + index + " = " + from + ";\n";
  }

  // The parameter as a local of one thread.
  std::string parameter(const Parameter& one) const {
    std::string text = "    " + text_of(one.tokens);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    if (const Attribute* place = place_of(one))
      return text + " = kd_as<" + one.type + ">(kd_place." + place->name + "());\n";
    const std::string bound = "kd_bound_" + index_of(one);
    if (is_copied(one)) return text + " = " + bound + ";\n";
    return text + (one.reference ? " = kd_Reference{" : " = kd_Pointer{") + bound + "};\n";
  }

  // Room for what each thread keeps.
  std::string store_of(size_t i) const {
    const Local& local = split_.kept[i].local;
    const std::string number = std::to_string(i);
    return "  typedef " + text_of(local.type) + " kd_kept_type_" + number + text_of(local.bounds) +
           ";\n  kd_kept_type_" + number + "* const kd_kept_" + number +
           " = metal::kd_kept<kd_kept_type_" + number + ", " + number + ">();\n";
  }

  static std::string head_of(const Split::Stretch& one) {
    if (!one.lone) return "KD_FOR_EACH";
    const bool by_index = one.lone->attribute == "thread_index_in_threadgroup";
    return (by_index ? "KD_FOR_INDEX(" : "KD_FOR_X(") + std::to_string(one.lone->at) + "u)";
  }

  std::string loop(size_t stretch) const {
    const Split::Stretch& one = split_.stretches[stretch];
    if (one.statements.empty()) return "";
    std::string text = "  {\n  " + head_of(one) +
                       " {\n    const kd_Place kd_place(kd_copy, kd_x0 + kd_x, kd_x, kd_y, kd_z);\n"
                       "    (void)kd_place;\n    {\n";
    for (const Parameter& parameter_ : function_.parameters) text += parameter(parameter_);
    for (const Range& range : one.replayed) text += text_of(range);
    for (size_t i = 0; i < split_.kept.size(); ++i) text += load(i, stretch);
    for (const Range& range : one.statements) text += text_of(range);
    for (size_t i = 0; i < split_.kept.size(); ++i) text += save(i, stretch);
    const bool last = stretch + 1 == split_.stretches.size();
    return text + (last ? "    }\n    kd_end:;\n  }\n  }\n" : "    }\n  }\n  }\n");
  }

  std::string load(size_t i, size_t stretch) const {
    const Split::Kept& one = split_.kept[i];
    if (stretch <= one.since || !one.used.count(stretch)) return "";
    const std::string number = std::to_string(i);
    return "    kd_kept_type_" + number + " " + one.local.name + "; metal::kd_keep(" +
           one.local.name + ", kd_kept_" + number + "[kd_place.t.index]);\n";
  }

  std::string save(size_t i, size_t stretch) const {
    const Split::Kept& one = split_.kept[i];
    if (stretch < one.since || !one.used.count(stretch) || stretch == *one.used.rbegin()) return "";
    return "    metal::kd_keep(kd_kept_" + std::to_string(i) + "[kd_place.t.index], " +
           one.local.name + ");\n";
  }

  const Unit& unit_;
  const Function& function_;
  const Split& split_;
  Edits edits_;
  Kernel kernel_;
};

}  // namespace

std::string split_text(const Unit& unit, const Function& function, const Split& split,
                       const Edits& edits) {
  return SplitWriter(unit, function, split, edits).run();
}

std::string split_entry_text(const Function& function, const std::string& arguments,
                             const Kernel& kernel) {
  return "extern \"C\" void " + kernel.symbol + "_group" + kParameters + " {\n  kd_split_" +
         function.name + arguments + "(kd_buffers, kd_groups, kd_g);\n}\n";
}

}  // namespace mlx_kd::msl
