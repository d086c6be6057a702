// Runs the program kd (or another one) for a test: arguments, folder, environment, input, signals.
//
//   auto result = tests::run_cli({"ops", "--json"});
//   tests::RunningCli run({"run", "--op", "rmsnorm"}, {.cwd = folder});
//   run.signal(SIGINT);
//   EXPECT_EQ(run.wait().code, 130);
//
// Output goes through files, so a program that prints much never blocks. One object, one thread.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

extern char** environ;

namespace mlx_kd::tests {

struct CliResult {
  int code = -1;           // as the program returned it; 128 + signal if one ended it
  bool timed_out = false;  // it was killed after the time limit (code 137)
  std::string out, err;
};

struct CliOptions {
  std::filesystem::path cwd = {};               // this process's own if empty
  std::map<std::string, std::string> env = {};  // added to this process's environment
  std::vector<std::string> unset = {};          // taken out of it
  std::string input = {};                       // what standard input holds
  std::string program = MLX_KD_PROGRAM;         // kd of this build
  double timeout_s = 300;                       // then it is killed
};

// A new empty folder that goes away with the object.
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "kd_test_XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::system_error(errno, std::generic_category(), name);
    path_ = name;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// A program that runs beside the test; killed with its process group if the test forgets it.
class RunningCli {
 public:
  explicit RunningCli(const std::vector<std::string>& args, const CliOptions& options = {})
      : timeout_s_(options.timeout_s) {
    std::ofstream(files_ / "in", std::ios::binary) << options.input;
    start(args, options);
  }
  RunningCli(const RunningCli&) = delete;
  RunningCli& operator=(const RunningCli&) = delete;
  ~RunningCli() {
    if (!ended_) end_with(SIGKILL);
  }

  // To the program alone; workers are its own to end.
  void signal(int number) const { ::kill(pid_, number); }
  // To the whole process group, as a terminal does on Ctrl-C.
  void signal_group(int number) const { ::kill(-pid_, number); }

  pid_t pid() const { return pid_; }
  std::string out_so_far() const { return text_of(files_ / "out"); }
  std::string err_so_far() const { return text_of(files_ / "err"); }

  // True as soon as the program ended; does not wait.
  bool ended() {
    if (!ended_ && waitpid(pid_, &status_, WNOHANG) == pid_) ended_ = true;
    return ended_;
  }

  CliResult wait() {
    CliResult result;
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::duration<double>(timeout_s_);
    while (!ended() && !result.timed_out) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      result.timed_out = std::chrono::steady_clock::now() > deadline;
    }
    if (result.timed_out) end_with(SIGKILL);
    result.code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
    result.out = out_so_far();
    result.err = err_so_far();
    return result;
  }

 private:
  void start(const std::vector<std::string>& args, const CliOptions& options) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    const std::string in = files_ / "in", out = files_ / "out", err = files_ / "err";
    posix_spawn_file_actions_addopen(&actions, 0, in.c_str(), O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (!options.cwd.empty()) posix_spawn_file_actions_addchdir_np(&actions, options.cwd.c_str());
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    std::vector<std::string> argv = {options.program};
    argv.insert(argv.end(), args.begin(), args.end());
    std::vector<std::string> variables = environment(options);
    const int status = posix_spawnp(&pid_, argv[0].c_str(), &actions, &attributes,
                                    pointers(argv).data(), pointers(variables).data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    ended_ = status != 0;
    if (ended_) throw std::system_error(status, std::generic_category(), argv[0]);
  }

  static std::vector<std::string> environment(const CliOptions& options) {
    std::map<std::string, std::string> values;
    for (char** entry = environ; *entry; ++entry) {
      const std::string text = *entry;
      const size_t equals = text.find('=');
      if (equals != std::string::npos) values[text.substr(0, equals)] = text.substr(equals + 1);
    }
    for (const auto& name : options.unset) values.erase(name);
    for (const auto& [name, value] : options.env) values[name] = value;
    std::vector<std::string> result;
    for (const auto& [name, value] : values) result.push_back(name + "=" + value);
    return result;
  }

  static std::vector<char*> pointers(std::vector<std::string>& strings) {
    std::vector<char*> result;
    for (auto& text : strings) result.push_back(text.data());
    result.push_back(nullptr);
    return result;
  }

  void end_with(int number) {
    signal_group(number);
    waitpid(pid_, &status_, 0);
    ended_ = true;
  }

  TempDir files_;
  double timeout_s_;
  pid_t pid_ = 0;
  int status_ = 0;
  bool ended_ = false;
};

inline CliResult run_cli(const std::vector<std::string>& args, const CliOptions& options = {}) {
  return RunningCli(args, options).wait();
}

}  // namespace mlx_kd::tests
