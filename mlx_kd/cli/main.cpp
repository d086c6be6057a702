// The program kd. Data on stdout, progress and messages on stderr; exit 0, 1 (failure), 2 (misuse),
// 130 (Ctrl-C).
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/version.h"
#include "mlx_kd/cli/command.h"
#include "mlx_kd/cli/verbs.h"

namespace {

std::vector<std::string> verbs_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; }))
    if (!verb->get_group().empty()) names.push_back(verb->get_name());
  return names;
}

// CLI11 says of a verb that it does not know only that one is required.
bool is_unknown_verb(const CLI::App& app, const std::string& word) {
  const auto has_name = [&](const CLI::App* verb) { return verb->get_name() == word; };
  return !word.empty() && word[0] != '-' && app.get_subcommands(has_name).empty();
}

// The command and the verbs that were understood, "kd msl run", whose help says more, and the last
// of them.
std::pair<std::string, const CLI::App*> understood(const CLI::App& app) {
  std::string text = mlx_kd::cli::command();
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().back();
    text += " " + at->get_name();
  }
  return {text, at};
}

// CLI11 takes the option behind one that needs a value for that value, and then misses the second
// or what came after: this names the first, or nothing.
std::string without_value(const CLI::App& verb, const std::vector<std::string>& words) {
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const CLI::Option* option = verb.get_option_no_throw(words[i]);
    if (words[i].rfind("--", 0) == 0 && words[i + 1].rfind("--", 0) == 0 && option &&
        option->get_items_expected_min() > 0 && verb.get_option_no_throw(words[i + 1]))
      return words[i] + " has no value: " + words[i + 1] + " follows it";
  }
  return "";
}

int report(const CLI::App& app, const CLI::ParseError& error,
           const std::vector<std::string>& words) {
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success))
    return app.exit(error);  // --help, --version
  const std::string word = words.empty() ? "" : words[0];
  if (is_unknown_verb(app, word)) {
    const std::string known = mlx_kd::base::list_of(verbs_of(app));
    std::fprintf(stderr, "[cli] verb '%s' is not known: choose %s\n", word.c_str(), known.c_str());
  } else {
    const auto [called, verb] = understood(app);
    const std::string unset = without_value(*verb, words);
    std::fprintf(stderr, "[cli] %s: see %s --help\n", unset.empty() ? error.what() : unset.c_str(),
                 called.c_str());
  }
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "mlx-kd finds, proves and pins the fastest kernel for each operator, shape, type and device "
      "of MLX."};
  mlx_kd::cli::set_command(argv[0]);
  app.name(mlx_kd::cli::command());
  app.set_version_flag("--version", "kd " + mlx_kd::base::version());
  app.require_subcommand(1);
  for (mlx_kd::cli::AddVerb* add_verb : mlx_kd::cli::verbs()) add_verb(app);
  std::signal(SIGXFSZ,
              SIG_IGN);  // a file size limit is a full disk like any other: an error, not a death
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    return report(app, error, std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
  } catch (const mlx_kd::cli::Exit& exit) {
    return exit.code;
  } catch (const mlx_kd::base::Error& error) {
    std::fprintf(stderr, "%s\n", mlx_kd::cli::as_called(error.what()).c_str());
    return error.exit_code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "[cli] %s: this is a defect of mlx-kd, please report it\n", error.what());
    return 1;
  }
}
