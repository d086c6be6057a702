// What may be varied: knobs, their values, and the constraints between them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mlx_kd/spec/named_ints.h"

namespace mlx_kd::spec {

enum class KnobRole {
  source,  // a macro of the source: another value is another object file
  launch,  // how the object is launched (threads, grain): no compile
};

enum class KnobScale {
  linear,  // distance between values is their difference
  log2,    // sizes: distance is the ratio
  choice,  // no order: one-hot in feature space
};

struct Knob {
  std::string name;             // as the macro is called: "VEC"
  std::vector<int64_t> values;  // at least one, distinct; the first is the default
  KnobScale scale = KnobScale::linear;
  KnobRole role = KnobRole::source;
  std::string help;  // one line for reports: "bytes a vector holds"
  std::vector<std::string> labels =
      {};  // choice knobs may name their values (as many as values), else empty
};

// A condition on some knobs. `holds` gets their values in the order of `knobs`; it is pure and
// cheap, and called as soon as all of them are fixed, so the more local a constraint the faster the
// enumeration.
struct Constraint {
  std::string text;                // "UNROLL * VEC <= 512: more spills registers"
  std::vector<std::string> knobs;  // at least one, each a knob of the space
  std::function<bool(const int64_t* values)> holds;
};

struct Space {
  std::vector<Knob> knobs;  // at most 16
  std::vector<Constraint> constraints;
};

// The first value of each knob.
Setting default_setting(const Space& space);

// Whether each knob has one of its values and all constraints hold.
bool is_valid(const Space& space, const Setting& setting);

}  // namespace mlx_kd::spec
