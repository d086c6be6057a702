// Which variables of a kernel's body can be computed again at any later place: their values come of
// the thread's place, of constants and of one another, by statements at the top level alone.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_kd/msl/parse/attributes.h"
#include "mlx_kd/msl/parse/body.h"

namespace mlx_kd::msl {

class Purity {
 public:
  // `body` must outlive it.
  Purity(const Unit& unit, const Function& function, const std::vector<BodyStatement>& body);

  bool is_pure(const std::string& name) const;
  // Thread attributes and pointers that the body changes only in ways that can be replayed.
  bool parameters_are_pure() const;
  // Whether the statement sets pure variables and nothing else.
  bool replays(const BodyStatement& one) const;
  // Whether a variable of this type can be stored and loaded: it points to nothing.
  bool is_value(Range type) const;

 private:
  struct Variable {
    bool pointer = false;
    bool readable = false;  // a pointer to constant memory: what it points to never changes
    bool pure = true;
  };

  void read_parameters();
  void read_locals();
  void read_shared(const BodyStatement& one);
  void find_odd_writes();
  void mark_passed_by_reference();
  void settle();
  bool pure_value(Range range) const;
  bool pure_word(uint32_t i, Range range, std::set<uint32_t>& brackets) const;
  bool dereferences(uint32_t i, Range range) const;
  bool changes(uint32_t i) const;
  Variable* find(std::string_view name);

  const Unit& unit_;
  const Function& function_;
  const std::vector<BodyStatement>& body_;
  std::map<std::string, Variable, std::less<>> variables_;
  std::set<std::string, std::less<>> parameters_;
  std::set<std::string_view> types_;  // parameters of the template, types of the body
  std::set<uint32_t> settled_;        // names where they are declared, or assigned at the top level
};

}  // namespace mlx_kd::msl
