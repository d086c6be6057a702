// Who calls whom.
#pragma once

#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "mlx_kd/msl/parse/unit.h"

namespace mlx_kd::msl {

struct Call {
  uint32_t function = 0;  // index of the callee in Unit::functions
  uint32_t name_at = 0;   // the token of its name
};

// Calls by name and number of arguments; a name with several overloads of that number calls all,
// and one that no function has, which may be an object's, every operator() of that number.
class CallGraph {
 public:
  explicit CallGraph(const Unit& unit);

  const std::vector<Call>& calls_of(uint32_t function) const { return calls_[function]; }
  // The function, or one that it calls, has threads meet: a barrier, a simd, quad or simdgroup
  // function of Metal.
  bool meets(uint32_t function) const { return meets_[function]; }
  // A chain of calls that returns to where it began: the token of the call that closes it; 0 if
  // there is none. Templates may call themselves, with other arguments; of a name with several
  // overloads, some of them perhaps Metal's, it is not known which one is called.
  uint32_t recursive_call() const;

 private:
  void collect(const Unit& unit, uint32_t function);
  bool add_calls(std::string_view name, uint32_t function, uint32_t at, uint32_t bracket);
  void spread_meeting();

  const Unit& unit_;
  bool is_certain(const Call& call) const;

  std::unordered_map<std::string_view, std::vector<uint32_t>> named_;
  std::vector<std::vector<Call>> calls_;
  std::vector<bool> meets_;
};

// The name of a Metal function in which threads meet, or of one that begins like those.
bool is_meeting(std::string_view name);
// One of Metal's own simd_ and quad_ functions. A source may have overloads of them.
bool is_exchange(std::string_view name);

// The token at i is a name. Returns the bracket that opens its arguments, 0 if it is not called
// here.
uint32_t call_bracket(const Unit& unit, uint32_t i, uint32_t end);

}  // namespace mlx_kd::msl
