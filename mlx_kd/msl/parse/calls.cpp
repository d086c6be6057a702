#include "mlx_kd/msl/parse/calls.h"

#include "mlx_kd/msl/parse/declarator.h"

namespace mlx_kd::msl {
namespace {

bool starts_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

size_t required_parameters(const Unit& unit, const Function& function) {
  size_t required = 0;
  for (const Parameter& one : function.parameters) {
    bool optional = false;
    for (uint32_t i = one.tokens.first; i < one.tokens.last; ++i)
      optional = optional || unit.tokens[i].is("=");
    if (!optional) ++required;
  }
  return required;
}

constexpr std::string_view kCallOperator = "operator()";

bool is_statement(std::string_view word) {
  return word == "if" || word == "for" || word == "while" || word == "switch" || word == "return";
}

}  // namespace

bool is_meeting(std::string_view name) {
  if (starts_with(name, "__metal_simd_")) return true;
  return name == "threadgroup_barrier" || starts_with(name, "simd_") ||
         starts_with(name, "quad_") || starts_with(name, "simdgroup_");
}

bool is_exchange(std::string_view name) {
  static const std::set<std::string_view> ends = {"sum",
                                                  "product",
                                                  "max",
                                                  "min",
                                                  "and",
                                                  "or",
                                                  "xor",
                                                  "prefix_inclusive_sum",
                                                  "prefix_exclusive_sum",
                                                  "prefix_inclusive_product",
                                                  "prefix_exclusive_product",
                                                  "shuffle",
                                                  "broadcast",
                                                  "shuffle_xor",
                                                  "shuffle_down",
                                                  "shuffle_up",
                                                  "shuffle_rotate_down",
                                                  "shuffle_rotate_up",
                                                  "shuffle_and_fill_down",
                                                  "shuffle_and_fill_up",
                                                  "broadcast_first",
                                                  "ballot",
                                                  "all",
                                                  "any",
                                                  "active_threads_mask",
                                                  "is_first"};
  const bool known = starts_with(name, "simd_") || starts_with(name, "quad_");
  return known && ends.count(name.substr(5)) > 0;
}

uint32_t call_bracket(const Unit& unit, uint32_t i, uint32_t end) {
  uint32_t k = i + 1;
  if (k < end && unit.tokens[k].is("<")) k = std::max(unit.behind_angles(k, end), k);
  return k < end && unit.tokens[k].is("(") ? k : 0;
}

CallGraph::CallGraph(const Unit& unit) : unit_(unit) {
  for (uint32_t i = 0; i < unit.functions.size(); ++i)
    if (unit.functions[i].definition) named_[unit.functions[i].name].push_back(i);
  calls_.resize(unit.functions.size());
  meets_.resize(unit.functions.size());
  for (uint32_t i = 0; i < unit.functions.size(); ++i)
    if (unit.functions[i].definition) collect(unit, i);
  spread_meeting();
}

void CallGraph::collect(const Unit& unit, uint32_t function) {
  const Range body = unit.functions[function].body;
  const bool has_objects = named_.count(kCallOperator) > 0;
  for (uint32_t i = body.first; i < body.last; ++i) {
    const Token& token = unit.tokens[i];
    if (token.kind != Kind::word || is_statement(token.text)) continue;
    const bool known = named_.count(token.text) > 0, metal = is_meeting(token.text);
    if (!known && !metal && !has_objects) continue;
    const uint32_t bracket = call_bracket(unit, i, body.last);
    if (bracket == 0) continue;
    if (metal && (!known || is_exchange(token.text))) meets_[function] = true;
    const bool called = add_calls(token.text, function, i, bracket);
    if (!called && !metal && has_objects) add_calls(kCallOperator, function, i, bracket);
  }
}

// Whether there is a function of this name that takes the arguments behind the bracket.
bool CallGraph::add_calls(std::string_view name, uint32_t function, uint32_t at, uint32_t bracket) {
  const auto found = named_.find(name);
  if (found == named_.end()) return false;
  const size_t given = split_list(unit_, {bracket + 1, unit_.partner[bracket]}).size();
  bool any = false;
  for (const uint32_t callee : found->second) {
    const Function& target = unit_.functions[callee];
    if (given > target.parameters.size() || given < required_parameters(unit_, target)) continue;
    calls_[function].push_back({callee, at});
    any = true;
  }
  return any;
}

void CallGraph::spread_meeting() {
  std::vector<std::vector<uint32_t>> callers(calls_.size());
  std::vector<uint32_t> ready;
  for (uint32_t i = 0; i < calls_.size(); ++i) {
    for (const Call& call : calls_[i]) callers[call.function].push_back(i);
    if (meets_[i]) ready.push_back(i);
  }
  while (!ready.empty()) {
    const uint32_t callee = ready.back();
    ready.pop_back();
    for (const uint32_t caller : callers[callee])
      if (!meets_[caller]) meets_[caller] = true, ready.push_back(caller);
  }
}

bool CallGraph::is_certain(const Call& call) const {
  static const std::set<std::string_view> library = {
      "abs",   "min",    "max",       "clamp",  "exp",   "log",   "sqrt",  "rsqrt",
      "sin",   "cos",    "tanh",      "pow",    "floor", "ceil",  "round", "sign",
      "dot",   "mix",    "fma",       "select", "step",  "isnan", "isinf", "popcount",
      "fract", "length", "normalize", "any",    "all"};
  const Function& callee = unit_.functions[call.function];
  if (!callee.templates.empty() || callee.member || callee.specialised) return false;
  if (library.count(callee.name) || is_exchange(callee.name)) return false;
  return named_.at(callee.name).size() == 1;
}

uint32_t CallGraph::recursive_call() const {
  enum State : uint8_t { fresh, open, closed };
  std::vector<State> state(calls_.size(), fresh);
  struct Step {
    uint32_t function;
    size_t next;
  };
  for (uint32_t root = 0; root < calls_.size(); ++root) {
    std::vector<Step> path;
    if (state[root] == fresh) path.push_back({root, 0}), state[root] = open;
    while (!path.empty()) {
      Step& step = path.back();
      if (step.next == calls_[step.function].size()) {
        state[step.function] = closed;
        path.pop_back();
        continue;
      }
      const Call call = calls_[step.function][step.next++];
      if (!is_certain(call)) continue;
      if (state[call.function] == open) return call.name_at;
      if (state[call.function] == fresh)
        path.push_back({call.function, 0}), state[call.function] = open;
    }
  }
  return 0;
}

}  // namespace mlx_kd::msl
