#include "mlx_kd/cli/command.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "mlx_kd/cli/verbs.h"

namespace mlx_kd::cli {
namespace {

std::string& stored_command() {
  static std::string name = "kd";
  return name;
}

bool continues_a_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '/' ||
         c == '.';
}

std::string word_at(const std::string& text, size_t at) {
  size_t end = at;
  while (end < text.size() &&
         (std::islower(static_cast<unsigned char>(text[end])) || text[end] == '-'))
    ++end;
  return text.substr(at, end - at);
}

const std::vector<std::string>& known_verbs() {
  static const std::vector<std::string> names = [] {
    CLI::App app;
    for (AddVerb* add_verb : verbs()) add_verb(app);
    std::vector<std::string> found;
    for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; }))
      found.push_back(verb->get_name());
    return found;
  }();
  return names;
}

}  // namespace

void set_command(const char* argv0) {
  const char* const given = std::getenv("MLX_KD_COMMAND");
  if (given && *given)
    stored_command() = given;
  else if (argv0 && *argv0)
    stored_command() = argv0;
}

const std::string& command() {
  return stored_command();
}

std::string python_program() {
  const char* const given = std::getenv("MLX_KD_PYTHON");
  return given && *given ? given : "python3";
}

std::string as_called(const std::string& text) {
  std::string result;
  size_t from = 0;
  for (size_t at = text.find("kd "); at != std::string::npos; at = text.find("kd ", at + 1)) {
    const bool starts_word = at == 0 || !continues_a_word(text[at - 1]);
    const std::string verb = word_at(text, at + 3);
    const auto& known = known_verbs();
    if (!starts_word || std::find(known.begin(), known.end(), verb) == known.end()) continue;
    result += text.substr(from, at - from) + command();
    from = at + 2;
  }
  return result + text.substr(from);
}

}  // namespace mlx_kd::cli
