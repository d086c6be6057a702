#include "mlx_kd/msl/split.h"

#include "mlx_kd/msl/purity.h"
#include "mlx_kd/msl/statements.h"

namespace mlx_kd::msl {
namespace {

bool is_word(const Token& token) {
  return token.kind == Kind::word;
}

// Where the threadgroup variables of the function are declared; none if one is not at the top.
std::optional<std::set<uint32_t>> shared_statements(const Unit& unit, const Function& function) {
  std::set<uint32_t> starts;
  for (const GroupVariable& one : group_variables(unit)) {
    if (&unit.functions[one.function] != &function) continue;
    if (!one.outermost) return std::nullopt;
    starts.insert(one.statement.first);
  }
  return starts;
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

class Splitter {
 public:
  Splitter(const Unit& unit, const Function& function, std::vector<BodyStatement> body)
      : unit_(unit), body_(std::move(body)), purity_(unit, function, body_) {}

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
    std::vector<Range> replayed;
    for (const BodyStatement& one : body_) {
      stretch_.push_back(split_.stretches.size() - 1);
      if (one.kind == BodyStatement::Kind::shared) {
        split_.shared.push_back(one.tokens);
      } else if (one.kind == BodyStatement::Kind::barrier) {
        split_.stretches.emplace_back();
        split_.stretches.back().replayed = replayed;
      } else {
        split_.stretches.back().statements.push_back(one.tokens);
        if (purity_.replays(one)) replayed.push_back(one.tokens);
      }
    }
  }

  bool returns_early() const {
    for (size_t i = 0; i < body_.size(); ++i)
      for (uint32_t k = body_[i].tokens.first; k < body_[i].tokens.last; ++k)
        if (unit_.tokens[k].is("return") && stretch_[i] + 1 < split_.stretches.size()) return true;
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
      for (uint32_t k = body_[i].tokens.first; k < body_[i].tokens.last; ++k)
        if (unit_.tokens[k].is(name)) found.insert(stretch_[i]);
    return found;
  }

  const Unit& unit_;
  std::vector<BodyStatement> body_;
  std::vector<size_t> stretch_;  // of each statement
  Purity purity_;
  Split split_;
};

}  // namespace

std::optional<Split> split_at_barriers(const Unit& unit, const Function& function,
                                       const CallGraph& calls) {
  if (!function.kernel || !function.scope.empty() || !function.definition) return std::nullopt;
  for (const Call& call : calls.calls_of(static_cast<uint32_t>(&function - &unit.functions[0])))
    if (calls.meets(call.function)) return std::nullopt;
  const auto shared = shared_statements(unit, function);
  if (!shared || hides_writes(unit, function.body)) return std::nullopt;
  auto body = read_body(unit, function, *shared);
  if (!body) return std::nullopt;
  size_t barriers = 0, meetings = 0;
  for (const BodyStatement& one : *body) barriers += one.kind == BodyStatement::Kind::barrier;
  for (uint32_t i = function.body.first; i < function.body.last; ++i)
    meetings += is_word(unit.tokens[i]) && is_meeting(unit.tokens[i].text) &&
                call_bracket(unit, i, function.body.last) != 0;
  if (barriers == 0 || barriers != meetings) return std::nullopt;
  return Splitter(unit, function, std::move(*body)).run();
}

}  // namespace mlx_kd::msl
