#include "mlx_kd/msl/parse/edits.h"

#include <algorithm>

namespace mlx_kd::msl {
namespace {

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// "unroll(4)" -> "unroll 4", "clang loop unroll(full)" -> "unroll".
std::string unroll_pragma(std::string_view text) {
  const size_t open = text.find('(');
  if (open == std::string_view::npos) return "unroll";
  const std::string count(text.substr(open + 1, text.find(')', open) - open - 1));
  if (count == "full" || count == "enable") return "unroll";
  return count == "disable" ? "unroll 1" : "unroll " + count;
}

}  // namespace

class Writer {
 public:
  Writer(const Unit& unit, const Edits& edits, Target target, std::vector<ColumnMark>* columns)
      : unit_(unit), edits_(edits), target_(target), columns_(columns) {}

  std::string run(Range range) {
    static const Edits::Edit none;
    for (uint32_t i = range.first; i < range.last; ++i) {
      const auto found = edits_.at_.find(i);
      const Edits::Edit& edit = found == edits_.at_.end() ? none : found->second;
      write(unit_.tokens[i], edit);
    }
    out_ += '\n';
    return std::move(out_);
  }

 private:
  void write(const Token& token, const Edits::Edit& edit) {
    if (token.kind == Kind::pragma) return write_pragma(token);
    const bool silent = edit.dropped && edit.before.empty() && edit.after.empty();
    if (silent) return;
    move_to(token);
    if (columns_) mark(token);
    put(edit.before);
    if (!edit.dropped) put(edit.replaced ? std::string_view(edit.text) : token.text);
    put(edit.after);
  }

  void mark(const Token& token) {
    const size_t start = out_.rfind('\n') + 1;  // npos + 1 is 0
    columns_->push_back({token.at.file, token.at.line,
                         static_cast<uint32_t>(out_.size() - start + 1), token.at.column});
  }

  void put(std::string_view text) {
    if (text.empty()) return;
    if (!out_.empty() && is_word(out_.back()) && is_word(text.front())) out_ += ' ';
    if (!out_.empty() && out_.back() == text.front() &&
        std::string_view("+-<>&|").find(text.front()) != std::string_view::npos)
      out_ += ' ';
    out_ += text;
    line_ += static_cast<uint32_t>(std::count(text.begin(), text.end(), '\n'));
  }

  // The blanks in front of a token: its own, if the text before it has reached where they start.
  void move_to(const Token& token) {
    const auto lines =
        static_cast<uint32_t>(std::count(token.before.begin(), token.before.end(), '\n'));
    if (token.at.file == file_ && token.at.line == line_ + lines) {
      out_ += token.before;
      line_ += lines;
      return;
    }
    if (token.at.file == file_ && token.at.line >= line_ && token.at.line <= line_ + 8) {
      out_.append(token.at.line - line_, '\n');
    } else {
      const bool comment = token.before.find('/') != std::string_view::npos;
      const uint32_t start = comment ? token.at.line - lines : token.at.line;
      out_ += "\n#line " + std::to_string(start) + " \"" + quoted(token.at.file) + "\"\n";
      file_ = token.at.file;
      line_ = token.at.line;
      if (comment) {
        out_ += token.before;
        return;
      }
    }
    line_ = token.at.line;
    if (out_.empty() || out_.back() == '\n')
      out_.append(std::min<uint32_t>(token.at.column - 1, 40), ' ');
    else if (!token.before.empty())
      out_ += ' ';
  }

  std::string quoted(uint32_t file) const {
    std::string text;
    for (const char c : unit_.sources->name(file)) {
      if (c == '"' || c == '\\') text += '\\';
      text += c;
    }
    return text;
  }

  void write_pragma(const Token& token) {
    if (target_ != Target::cuda || token.text.find("unroll") == token.text.npos) return;
    out_ += "\n#pragma " + unroll_pragma(token.text) + "\n";
    file_ = UINT32_MAX;  // the next token says where it is
  }

  const Unit& unit_;
  const Edits& edits_;
  Target target_;
  std::vector<ColumnMark>* columns_;
  std::string out_;
  uint32_t file_ = UINT32_MAX;
  uint32_t line_ = 0;
};

std::string write_text(const Unit& unit, const Edits& edits, Target target,
                       std::vector<ColumnMark>* columns) {
  const Range all = {0, static_cast<uint32_t>(unit.tokens.size())};
  return Writer(unit, edits, target, columns).run(all);
}

std::string write_range(const Unit& unit, const Edits& edits, Range range, Target target) {
  return Writer(unit, edits, target, nullptr).run(range);
}

}  // namespace mlx_kd::msl
