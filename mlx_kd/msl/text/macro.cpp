#include "mlx_kd/msl/text/macro.h"

#include <algorithm>

namespace mlx_kd::msl {
namespace {

constexpr size_t kMaxMade = size_t{4} << 20;
constexpr int kMaxExpansions = 100;
constexpr size_t kMaxFrames = 1000;

int parameter_index(const Macro& macro, const Token& token) {
  if (token.kind != Kind::word) return -1;
  const auto found = std::find(macro.parameters.begin(), macro.parameters.end(), token.text);
  return found == macro.parameters.end() ? -1 : static_cast<int>(found - macro.parameters.begin());
}

// A token of a macro's body is where the macro is used.
Token placed(Token token, const Token& name) {
  token.at = name.at;
  token.before = token.before.empty() ? std::string_view() : std::string_view(" ");
  token.line_start = false;
  return token;
}

}  // namespace

void Expander::count(size_t made, Position at) {
  made_ += made;
  if (made_ > kMaxMade) refuse(sources_, at, "the macros grow beyond 4 million tokens");
}

Tokens Expander::expand(const Tokens& in) {
  Tokens out;
  if (in.empty()) return out;
  if (++depth_ > kMaxExpansions) refuse(sources_, in.front().at, "macros nested deeper than 100");
  Frames frames;
  frames.push_back({in, 0, nullptr});
  while (const Token* next = peek(frames)) {
    Token token = *next;
    ++frames.back().next;
    if (token.kind == Kind::word && !token.painted) {
      const auto found = macros_.find(token.text);
      if (found != macros_.end()) {
        if (found->second.active)
          token.painted = true;
        else if (open(frames, token, found->second))
          continue;
      }
    }
    out.push_back(token);
  }
  --depth_;
  return out;
}

// The next token of the innermost frame that has one; finished frames are closed.
const Token* Expander::peek(Frames& frames) {
  while (!frames.empty()) {
    Frame& frame = frames.back();
    if (frame.next < frame.tokens.size()) return &frame.tokens[frame.next];
    pop(frames);
  }
  return nullptr;
}

void Expander::pop(Frames& frames) {
  if (frames.back().macro) frames.back().macro->active = false;
  frames.pop_back();
}

// False if a macro with parameters is named without a list of arguments.
bool Expander::open(Frames& frames, const Token& name, Macro& macro) {
  Tokens made;
  if (macro.function) {
    const Token* next = peek(frames);
    if (!next || !next->is("(")) return false;
    made = substitute(name, macro, arguments(frames, name, macro));
  } else {
    made = substitute(name, macro, {});
  }
  count(made.size() + 1, name.at);
  if (frames.size() > kMaxFrames) refuse(sources_, name.at, "macros nested deeper than 1000");
  if (!made.empty()) made.front().before = name.before;
  macro.active = true;
  frames.push_back({std::move(made), 0, &macro});
  return true;
}

std::vector<Tokens> Expander::arguments(Frames& frames, const Token& name, const Macro& macro) {
  std::vector<Tokens> list(1);
  ++frames.back().next;  // the opening bracket
  int depth = 0;
  while (true) {
    const Token* next = peek(frames);
    if (!next)
      refuse(sources_, name.at,
             "the arguments of macro '" + std::string(name.text) + "' have no end: close the '('");
    const Token token = *next;
    ++frames.back().next;
    if (token.is(")") && depth == 0) break;
    if (token.is("(")) ++depth;
    if (token.is(")")) --depth;
    const bool rest = macro.variadic && list.size() >= macro.parameters.size();
    if (token.is(",") && depth == 0 && !rest)
      list.emplace_back();
    else
      list.back().push_back(token);
    count(1, name.at);
  }
  if (macro.parameters.empty() && list.size() == 1 && list[0].empty()) list.clear();
  if (macro.variadic && list.size() + 1 == macro.parameters.size()) list.emplace_back();
  if (list.size() != macro.parameters.size())
    refuse(sources_, name.at,
           "macro '" + std::string(name.text) + "' takes " +
               std::to_string(macro.parameters.size()) + " arguments and is given " +
               std::to_string(list.size()));
  return list;
}

Tokens Expander::substitute(const Token& name, const Macro& macro, const std::vector<Tokens>& raw) {
  Tokens out;
  std::vector<Tokens> full(raw.size());
  for (size_t i = 0; i < raw.size(); ++i) full[i] = expand(raw[i]);
  const Tokens& body = macro.body;
  for (size_t i = 0; i < body.size(); ++i) {
    const bool pastes = i + 1 < body.size() && body[i + 1].is("##");
    if (body[i].is("#") && macro.function && i + 1 < body.size() &&
        parameter_index(macro, body[i + 1]) >= 0) {
      out.push_back(stringize(name, raw[parameter_index(macro, body[++i])]));
      continue;
    }
    if (body[i].is("##") && i > 0 && i + 1 < body.size()) {
      const int index = parameter_index(macro, body[++i]);
      Tokens right = index >= 0 ? raw[index] : Tokens{placed(body[i], name)};
      const bool comma = !out.empty() && out.back().is(",") && macro.variadic &&
                         index == static_cast<int>(macro.parameters.size()) - 1;
      if (comma && right.empty()) out.pop_back();
      if (!comma && !right.empty() && !out.empty()) {
        const Token left = out.back();
        out.pop_back();
        paste(out, left, right.front());
        right.erase(right.begin());
      }
      out.insert(out.end(), right.begin(), right.end());
      continue;
    }
    const int index = parameter_index(macro, body[i]);
    if (index < 0)
      out.push_back(placed(body[i], name));
    else
      out.insert(out.end(), (pastes ? raw : full)[index].begin(),
                 (pastes ? raw : full)[index].end());
    count(1, name.at);
    if (out.size() > kMaxMade) count(kMaxMade, name.at);
  }
  return out;
}

void Expander::paste(Tokens& out, const Token& left, const Token& right) {
  SourceSet scratch;
  const std::string_view text = sources_.keep(std::string(left.text) + std::string(right.text));
  scratch.add(sources_.name(left.at.file), std::string(text));
  const Tokens made = lex(scratch, 0);
  if (made.size() != 1)
    refuse(sources_, left.at, "'" + std::string(text) + "' (pasted by ##) is not a token");
  Token token = left;
  token.kind = made[0].kind;
  token.text = text;
  out.push_back(token);
}

Token Expander::stringize(const Token& name, const Tokens& raw) {
  std::string text = "\"";
  for (size_t i = 0; i < raw.size(); ++i) {
    if (i > 0 && !raw[i].before.empty()) text += ' ';
    for (const char c : raw[i].text) {
      if (c == '"' || c == '\\') text += '\\';
      text += c;
    }
  }
  Token token = placed(name, name);
  token.kind = Kind::text;
  token.text = sources_.keep(text + "\"");
  return token;
}

}  // namespace mlx_kd::msl
