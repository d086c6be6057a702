// Kernels of the suite with one barrier deleted, one barrier moved into a condition, or one array
// shrunk by one: those whose result changes under some order of the threads must be found by the
// checks. The list of all mutants lies in tests/msl/mutants.json.
//
// MLX_KD_LONG=1 makes and runs all of them in 50 orders and compares with the list;
// MLX_KD_MUTANTS_OUT=FILE writes the list anew.
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/msl/parse/attributes.h"
#include "mlx_kd/msl/parse/statements.h"
#include "tests/devices/simt/suite.h"

namespace mlx_kd::devices::simt {
namespace {

constexpr int kOrders = 50;
const std::string kList = std::string(MLX_KD_SOURCE_DIR) + "/tests/msl/mutants.json";

struct Mutant {
  const SuiteCase* suite_case;
  std::string kernel;  // its name in the mutated source
  std::string what;    // "barrier deleted"
  std::string place;   // "groups.metal:12"
  bool changes = false;
  bool found = false;
};

// One file of the suite with all its mutants behind it.
class Mutation {
 public:
  explicit Mutation(const SuiteCase& first)
      : session_(session_of(first)), text_(base::read_file(path_of(first), "test")) {
    more_ = text_;
    if (more_.back() != '\n') more_ += '\n';
    std::set<std::string> done;
    for (const SuiteCase& one : suite())
      if (&session_of(one) == &session_ && !one.diverges) add(one, done);
  }

  std::vector<Mutant>& mutants() { return mutants_; }
  std::unique_ptr<Session> compile(const SuiteCase& one) const {
    return std::make_unique<Session>(path_of(one), more_, msl::PreprocessOptions{},
                                     msl::TranslateOptions{one.constants});
  }

 private:
  const msl::Unit& unit() const { return session_.unit(); }

  size_t offset(uint32_t token) const {
    const msl::Position at = unit().tokens[token].at;
    size_t start = 0;
    for (uint32_t line = 1; line < at.line; ++line) start = text_.find('\n', start) + 1;
    return start + at.column - 1;
  }

  bool written_here(uint32_t token) const {
    const msl::Token& one = unit().tokens[token];
    return one.at.file == unit().file &&
           text_.compare(offset(token), one.text.size(), one.text) == 0;
  }

  void add(const SuiteCase& one, std::set<std::string>& done) {
    for (const msl::Kernel& kernel : session_.translation().kernels) {
      if (kernel.name != one.kernel || !done.insert(kernel.function).second) continue;
      const msl::Function* function = unit().definition_of(kernel.function);
      if (!function || (function->templates.empty() && function->host_name != function->name))
        continue;
      delete_and_move_barriers(one, *function);
      shrink_arrays(one, *function);
    }
  }

  void delete_and_move_barriers(const SuiteCase& one, const msl::Function& function) {
    const std::string odd = odd_thread(function);
    for (uint32_t i = function.body.first; i < function.body.last; ++i) {
      const msl::Token& token = unit().tokens[i];
      if (!token.is("threadgroup_barrier") && !token.is("simdgroup_barrier")) continue;
      const uint32_t close = unit().partner[i + 1];
      if (!written_here(i) || !written_here(close)) continue;
      const size_t first = offset(i), last = offset(close) + 1;
      write(one, function, i, "barrier deleted", first, last, "");
      if (!odd.empty())
        write(one, function, i, "barrier in a condition", first, last,
              "if (" + odd + ") " + text_.substr(first, last - first));
    }
  }

  void shrink_arrays(const SuiteCase& one, const msl::Function& function) {
    for (const msl::GroupVariable& variable : msl::group_variables(unit())) {
      if (&unit().functions[variable.function] != &function || variable.bounds.empty()) continue;
      const uint32_t open = variable.bounds.first, close = unit().partner[open];
      if (!written_here(open) || !written_here(close)) continue;
      const size_t first = offset(open) + 1, last = offset(close);
      write(one, function, open, "array shrunk by one", first, last,
            "(" + text_.substr(first, last - first) + ") - 1");
    }
  }

  // True for half the threads of a group; "" if the kernel asks for no place.
  static std::string odd_thread(const msl::Function& function) {
    for (const msl::Parameter& one : function.parameters)
      for (const char* name : {"thread_index_in_threadgroup", "thread_position_in_threadgroup",
                               "thread_position_in_grid", "thread_index_in_simdgroup"})
        if (one.attribute(name)) {
          const bool vector = one.type.back() == '2' || one.type.back() == '3';
          return one.name + (vector ? ".x" : "") + " & 1";
        }
    return "";
  }

  // A copy of the function with [first, last) of the text replaced.
  void write(const SuiteCase& one, const msl::Function& function, uint32_t token,
             const std::string& what, size_t first, size_t last, const std::string& instead) {
    const std::string name = function.name + "_m" + std::to_string(mutants_.size());
    const size_t begin = offset(function.tokens.first), called = offset(function.name_at);
    const size_t end = offset(function.body.last - 1) + 1;
    more_ += text_.substr(begin, called - begin) + name +
             text_.substr(called + function.name.size(), first - called - function.name.size()) +
             instead + text_.substr(last, end - last) + "\n";
    std::string host = name;
    for (const msl::Instantiation& made : unit().instantiations)
      if (made.host_name == one.kernel)
        more_ += "template [[host_name(\"" + name + "\")]] [[kernel]] decltype(" + name +
                 made.arguments + ") " + name + made.arguments + ";\n";
    mutants_.push_back({&one, host, what,
                        one.file + ":" + std::to_string(unit().tokens[token].at.line), false,
                        false});
  }

  Session& session_;
  std::string text_, more_;
  std::vector<Mutant> mutants_;
};

bool changes_a_result(Session& session, const Mutant& mutant) {
  const MslRequest given = request_of(*mutant.suite_case);
  for (int order = 0; order < kOrders; ++order) {
    MslRequest request = given;
    request.kernel = mutant.kernel;
    request.launch.order = order == 0   ? ThreadOrder::forward
                           : order == 1 ? ThreadOrder::reverse
                                        : ThreadOrder::random;
    request.launch.seed = static_cast<uint64_t>(order);
    request.launch.fibers = true;
    request.launch.cores = 1;
    request.launch.timeout_s = 5;
    try {
      session.run(request);
    } catch (const base::Error&) {
      return true;  // it does not end, or faults
    }
    if (!difference(*mutant.suite_case, given, request).empty()) return true;
  }
  return false;
}

bool is_found(Session& session, const Mutant& mutant) {
  MslRequest request = request_of(*mutant.suite_case);
  request.kernel = mutant.kernel;
  request.check_races = request.check_memory = true;
  request.launch.timeout_s = 20;
  try {
    return !session.run(request).findings.empty();
  } catch (const base::Error&) {
    return false;
  }
}

base::OrderedJson record(const Mutant& one) {
  return {{"kernel", one.suite_case->kernel},
          {"mutant", one.kernel},
          {"what", one.what},
          {"place", one.place},
          {"changes_a_result", one.changes},
          {"found", one.found}};
}

TEST(Mutants, ThatChangeAResultAreFound) {
  const base::Json list = base::Json::parse(base::read_file(kList, "test"));
  size_t changing = 0, found = 0;
  std::set<std::string> kernels;
  for (const auto& one : list["mutants"]) {
    kernels.insert(one["kernel"].get<std::string>());
    if (!one["changes_a_result"].get<bool>()) continue;
    ++changing;
    found += one["found"].get<bool>();
  }
  EXPECT_GE(kernels.size(), 40u);
  EXPECT_GE(changing, 40u);
  EXPECT_GE(static_cast<double>(found), 0.95 * static_cast<double>(changing));
}

TEST(Mutants, OfOneFileAreFoundAsTheListSays) {
  const base::Json list = base::Json::parse(base::read_file(kList, "test"));
  for (const SuiteCase& one : suite()) {
    if (one.file != "reductions.metal") continue;
    Mutation mutation(one);
    const auto session = mutation.compile(one);
    size_t seen = 0;
    for (const Mutant& mutant : mutation.mutants())
      for (const auto& kept : list["mutants"])
        if (kept["mutant"] == mutant.kernel && kept["place"] == mutant.place) {
          ++seen;
          EXPECT_EQ(is_found(*session, mutant), kept["found"].get<bool>())
              << mutant.place << " " << mutant.what;
        }
    EXPECT_EQ(seen, mutation.mutants().size());
    break;
  }
}

TEST(Mutants, AllInFiftyOrdersAreAsTheListSays) {
  if (!std::getenv("MLX_KD_LONG")) GTEST_SKIP() << "takes minutes: set MLX_KD_LONG=1";
  base::OrderedJson mutants = base::OrderedJson::array();
  std::set<const Session*> done;
  for (const SuiteCase& one : suite()) {
    if (!done.insert(&session_of(one)).second) continue;
    Mutation mutation(one);
    if (mutation.mutants().empty()) continue;
    const auto session = mutation.compile(one);
    for (Mutant& mutant : mutation.mutants()) {
      mutant.changes = changes_a_result(*session, mutant);
      mutant.found = is_found(*session, mutant);
      mutants.push_back(record(mutant));
    }
  }
  const base::OrderedJson list = {{"orders", kOrders}, {"mutants", mutants}};
  if (const char* out = std::getenv("MLX_KD_MUTANTS_OUT"))
    base::write_file_atomically(out, list.dump(1) + "\n", "test");
  else
    EXPECT_EQ(base::Json::parse(list.dump()), base::Json::parse(base::read_file(kList, "test")));
}

}  // namespace
}  // namespace mlx_kd::devices::simt
