// An entry of a pack that this process can run.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "mlx_kd/packs/entry.h"
#include "mlx_kd/runtime/pins/call_key.h"
#include "mlx_kd/runtime/pins/kernel.h"
#include "mlx_kd/runtime/pins/operators.h"
#include "mlx_kd/runtime/pins/pin_devices.h"

namespace mlx_kd::runtime {

inline constexpr size_t kNoPin = static_cast<size_t>(-1);

// A pin at one size, with all that a call of it needs. Immutable.
struct Served {
  size_t pin;  // index into Table::pins(); kNoPin: the op's default setting
  std::shared_ptr<Kernel> kernel;
  spec::Dtype dtype;
  devices::Call call;
  std::vector<spec::Shape> outputs;  // shapes of the op's ports
};

// What a pin serves in addition to its own size.
struct Range {
  size_t dim;  // index into Op::dims
  int64_t lo, hi;
};

struct Pin {
  Query key;                  // its size; params are not part of it
  bool any_size = false;      // of schema 1 without sizes
  std::vector<Range> ranges;  // any combination of them
  bool fixed_params = false;  // they are in its source: only a call with `params` matches
  std::array<double, kMostParams> params = {};
  const Operator* op;
  packs::Entry entry;
  // A body that asks for the shapes of its arrays: another kernel at every size, each Served's own.
  bool reads_shapes = false;
  std::shared_ptr<Kernel> kernel;        // at its size
  std::shared_ptr<const Served> served;  // at its size; nullptr for any_size
};

struct Skipped {
  std::string title, reason;
};

// The pins of an entry: one, or one per type if an entry of schema 1 does not name a type; or the
// reason why it was skipped.
std::variant<std::vector<Pin>, Skipped> pins_of(const packs::Entry& entry,
                                                bool allow_approximate = false);

// The pin at another size that it serves. Misuse where the kernel cannot be launched there.
std::shared_ptr<const Served> serve(const Pin& pin, size_t index, const Query& query);

// Whether the size is the pin's, or in its ranges.
bool holds(const Pin& pin, const DimValues& dims);

// "rows=1,D=2048", "rows=1..512,D=2048", "any size".
std::string shape_of(const Pin& pin);

// Fields by which a call misses the pin: "rows: 3 here, 4 in the pin; eps: ...". Empty: it matches.
std::vector<std::string> differences(const Pin& pin, const Query& query);

}  // namespace mlx_kd::runtime
