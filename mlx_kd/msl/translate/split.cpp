#include "mlx_kd/msl/translate/split.h"

#include "mlx_kd/msl/parse/statements.h"
#include "mlx_kd/msl/translate/purity.h"

namespace mlx_kd::msl {
namespace {

// The threadgroup variables of the function; none if one is not declared at the top level.
std::optional<std::vector<GroupVariable>> shared_variables(const Unit& unit,
                                                           const Function& function) {
  std::vector<GroupVariable> found;
  for (GroupVariable& one : group_variables(unit)) {
    if (&unit.functions[one.function] != &function) continue;
    if (!one.outermost) return std::nullopt;
    found.push_back(std::move(one));
  }
  return found;
}

// Lambdas and references to locals: who changes what cannot be followed through them.
bool hides_writes(const Unit& unit, Range body) {
  for (uint32_t i = body.first + 1; i + 2 < body.last; ++i) {
    const Token &token = unit.tokens[i], &before = unit.tokens[i - 1], &name = unit.tokens[i + 1];
    const bool operand = is_word(before) ? !before.is("return") : before.is(")") || before.is("]");
    if (token.is("[") && !operand) return true;
    if (!token.is("&") && !token.is("&&")) continue;
    const Token& after = unit.tokens[i + 2];
    if (is_word(name) && (after.is("=") || after.is(":") || after.is("{"))) return true;
    if (is_word(name) && (is_value_type(before.text) || before.is("auto"))) return true;
  }
  return false;
}

// 0 to 1023, for "0", "31u".
std::optional<uint32_t> small_number(std::string_view text) {
  if (!text.empty() && (text.back() == 'u' || text.back() == 'U')) text.remove_suffix(1);
  if (text.empty() || text.size() > 4) return std::nullopt;
  uint32_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = 10 * value + static_cast<uint32_t>(c - '0');
  }
  if ((text.size() > 1 && text[0] == '0') || value > 1023) return std::nullopt;
  return value;
}

class Splitter {
 public:
  // `lone`: whether what one thread does alone is cut out.
  Splitter(const Unit& unit, const Function& function, const std::vector<BodyStatement>& body,
           const Purity& purity, bool lone)
      : unit_(unit), function_(function), body_(body), purity_(purity), cuts_lone_(lone) {}

  std::optional<Split> run() {
    cut();
    if (returns_early() || !purity_.parameters_are_pure()) return std::nullopt;
    for (size_t i = 0; i < body_.size(); ++i) {
      if (body_[i].kind != BodyStatement::Kind::declaration) continue;
      for (const Local& local : body_[i].locals)
        if (!purity_.is_pure(local.name) && !keep(local, stretch_[i])) return std::nullopt;
    }
    return std::move(split_);
  }

 private:
  // Deals the statements out to the stretches.
  void cut() {
    split_.stretches.emplace_back();
    for (const BodyStatement& one : body_) {
      if (one.kind == BodyStatement::Kind::barrier) returned_ = false;
      const auto lone = lone_threads(one);
      if (lone || (split_.stretches.back().lone && runs(one))) begin_stretch();
      stretch_.push_back(split_.stretches.size() - 1);
      split_.stretches.back().lone = lone ? lone : split_.stretches.back().lone;
      deal(one);
      returned_ = returned_ || has(one, "return");
    }
  }

  void deal(const BodyStatement& one) {
    if (one.kind == BodyStatement::Kind::shared) {
      split_.shared.push_back(one.tokens);
    } else if (one.kind == BodyStatement::Kind::barrier) {
      begin_stretch();
    } else {
      split_.stretches.back().statements.push_back(one.tokens);
      if (purity_.replays(one)) replayed_.push_back(one.tokens);
    }
  }

  static bool runs(const BodyStatement& one) {
    return one.kind != BodyStatement::Kind::shared && one.kind != BodyStatement::Kind::barrier;
  }

  void begin_stretch() {
    split_.stretches.emplace_back();
    split_.stretches.back().replayed = replayed_;
  }

  bool has(const BodyStatement& one, std::string_view word) const {
    for (uint32_t k = one.tokens.first; k < one.tokens.last; ++k)
      if (unit_.tokens[k].is(word)) return true;
    return false;
  }

  // For "if (t == 7) ...", "if (t.x == 7) ...", "if (!t) ...", where t is the thread's place in its
  // threadgroup and never changes.
  std::optional<Split::Lone> lone_threads(const BodyStatement& one) const {
    uint32_t i = one.tokens.first;
    if (!cuts_lone_ || returned_ || !unit_.tokens[i].is("if") || !unit_.tokens[i + 1].is("("))
      return std::nullopt;
    if (has(one, "else") || has(one, "return")) return std::nullopt;
    const uint32_t close = unit_.partner[i + 1];
    i += 2;
    const bool negated = unit_.tokens[i].is("!");
    const Parameter* place = place_named(unit_.tokens[i += negated].text);
    if (!place) return std::nullopt;
    ++i;
    if (is_vector(*place)) {
      if (!unit_.tokens[i].is(".") || !unit_.tokens[i + 1].is("x")) return std::nullopt;
      i += 2;
    }
    const std::string attribute = place->attribute("thread_index_in_threadgroup")
                                      ? "thread_index_in_threadgroup"
                                      : "thread_position_in_threadgroup";
    if (negated && i == close) return Split::Lone{attribute, 0};
    if (negated || !unit_.tokens[i].is("==") || i + 2 != close) return std::nullopt;
    const auto at = small_number(unit_.tokens[i + 1].text);
    return at ? std::optional<Split::Lone>({attribute, *at}) : std::nullopt;
  }

  static bool is_vector(const Parameter& one) {
    return !one.type.empty() && one.type.back() >= '2' && one.type.back() <= '4';
  }

  const Parameter* place_named(std::string_view name) const {
    for (const BodyStatement& one : body_)
      if (one.kind == BodyStatement::Kind::assignment && unit_.tokens[one.target].is(name))
        return nullptr;
    for (const Parameter& one : function_.parameters)
      if (one.name == name && purity_.is_pure(one.name) &&
          (one.attribute("thread_position_in_threadgroup") ||
           one.attribute("thread_index_in_threadgroup")))
        return &one;
    return nullptr;
  }

  bool returns_early() const {
    for (size_t i = 0; i < body_.size(); ++i)
      if (has(body_[i], "return") && stretch_[i] + 1 < split_.stretches.size()) return true;
    return false;
  }

  // False if the variable lives on and cannot be stored.
  bool keep(const Local& local, size_t since) {
    const std::set<size_t> used = stretches_with(local.name);
    if (*used.rbegin() == since) return true;
    if (local.pointer || !purity_.is_value(local.type)) return false;
    split_.kept.push_back({local, since, used});
    return true;
  }

  std::set<size_t> stretches_with(const std::string& name) const {
    std::set<size_t> found;
    for (size_t i = 0; i < body_.size(); ++i)
      if (has(body_[i], name)) found.insert(stretch_[i]);
    return found;
  }

  const Unit& unit_;
  const Function& function_;
  const std::vector<BodyStatement>& body_;
  const Purity& purity_;
  bool cuts_lone_;
  bool returned_ = false;        // a statement since the last barrier may end the thread
  std::vector<size_t> stretch_;  // of each statement
  std::vector<Range> replayed_;
  Split split_;
};

// Whether the cuts around lone statements cost no more than numbers stored.
bool is_worth_it(const Split& with, const Split& without) {
  for (const Split::Kept& one : with.kept) {
    bool known = one.local.bounds.empty();
    for (const Split::Kept& other : without.kept)
      known = known || other.local.name == one.local.name;
    if (!known) return false;
  }
  return true;
}

std::optional<Split> split_body(const Unit& unit, const Function& function,
                                const std::vector<BodyStatement>& body) {
  const Purity purity(unit, function, body);
  auto without = Splitter(unit, function, body, purity, false).run();
  if (!without) return std::nullopt;
  auto with = Splitter(unit, function, body, purity, true).run();
  return with && is_worth_it(*with, *without) ? with : without;
}

}  // namespace

std::optional<Split> split_at_barriers(const Unit& unit, const Function& function,
                                       const CallGraph& calls) {
  if (!function.kernel || !function.scope.empty() || !function.definition) return std::nullopt;
  for (const Call& call : calls.calls_of(static_cast<uint32_t>(&function - &unit.functions[0])))
    if (calls.meets(call.function)) return std::nullopt;
  for (const Parameter& one : function.parameters)
    if (one.reference && unit.arrays.count(one.type)) return std::nullopt;
  const auto shared = shared_variables(unit, function);
  if (!shared || hides_writes(unit, function.body)) return std::nullopt;
  std::set<uint32_t> starts;
  for (const GroupVariable& one : *shared) starts.insert(one.statement.first);
  const auto body = read_body(unit, function, starts);
  if (!body) return std::nullopt;
  size_t barriers = 0, meetings = 0;
  for (const BodyStatement& one : *body) barriers += one.kind == BodyStatement::Kind::barrier;
  for (uint32_t i = function.body.first; i < function.body.last; ++i)
    meetings += is_word(unit.tokens[i]) && is_meeting(unit.tokens[i].text) &&
                call_bracket(unit, i, function.body.last) != 0;
  if (barriers == 0 || barriers != meetings) return std::nullopt;
  auto split = split_body(unit, function, *body);
  if (!split) return std::nullopt;
  for (const GroupVariable& one : *shared) split->variables.push_back(one.name);
  return split;
}

}  // namespace mlx_kd::msl
