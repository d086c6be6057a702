// Who started this process: what the environment says, and what makes no sense.
#include "mlx_kd/discover/ranks/launch.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>

#include "mlx_kd/base/error.h"
#include "mlx_kd/discover/ranks/connection.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::discover {
namespace {

using Variables = std::map<std::string, std::string>;

Environment environment_of(const Variables& variables) {
  return [&variables](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

class Launches : public testing::Test {
 protected:
  std::optional<Launch> find(const Variables& variables) {
    return find_launch(environment_of(variables));
  }
  std::string hosts(const std::string& text) {
    std::ofstream(folder_ / "hosts") << text;
    return folder_ / "hosts";
  }
  std::string message_of(const Variables& variables) {
    try {
      find(variables);
    } catch (const base::Error& error) {
      EXPECT_EQ(error.exit_code(), 2);
      return error.what();
    }
    return "";
  }
  void expect_refused(const Variables& variables, const std::string& why) {
    const std::string message = message_of(variables);
    EXPECT_NE(message.find(why), std::string::npos) << message;
  }
  tests::TempDir folder_;
};

constexpr const char* kTwo = R"([["10.0.0.1:32323"], ["10.0.0.2:32324"]])";

TEST_F(Launches, NoLauncherIsOneProcess) {
  EXPECT_FALSE(find({}));
  EXPECT_FALSE(find({{"MLX_HOSTFILE", "left over"}}));
}

TEST_F(Launches, OneRankIsOneProcess) {
  EXPECT_FALSE(find({{"MLX_RANK", "0"}, {"MLX_HOSTFILE", hosts("")}}));
  EXPECT_FALSE(find({{"OMPI_COMM_WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_RANK", "0"}}));
  EXPECT_FALSE(find({{"PMI_SIZE", "1"}}));
}

TEST_F(Launches, MlxLaunchMakesARing) {
  const auto launch = find({{"MLX_RANK", "1"}, {"MLX_HOSTFILE", hosts(kTwo)}});
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->backend, "ring");
  EXPECT_EQ(launch->rank, 1);
  EXPECT_EQ(launch->size, 2);
  EXPECT_EQ(launch->address, "10.0.0.1");
  ASSERT_EQ(launch->own.size(), 1u);
  EXPECT_EQ(launch->own[0].second, 32324);
}

TEST_F(Launches, MpirunMakesAGroupOfOpenMpi) {
  const auto launch = find({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "3"}});
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->backend, "mpi");
  EXPECT_EQ(launch->rank, 3);
  EXPECT_EQ(launch->size, 4);
}

TEST_F(Launches, TwoLaunchersAtOnceAreRefused) {
  expect_refused({{"MLX_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "1"}}, "use one of them");
}

TEST_F(Launches, OtherBackendsAreRefused) {
  expect_refused({{"PMI_SIZE", "4"}}, "openmpi-bin");
  expect_refused({{"MLX_RANK", "0"}, {"NCCL_HOST_IP", "10.0.0.1"}}, "--backend ring");
  expect_refused({{"MLX_RANK", "0"}, {"MLX_JACCL_COORDINATOR", "10.0.0.1:1"}}, "--backend ring");
}

TEST_F(Launches, ARankThatTheHostsDoNotHaveIsRefused) {
  expect_refused({{"MLX_RANK", "2"}, {"MLX_HOSTFILE", hosts(kTwo)}}, "has hosts for 2");
  expect_refused({{"MLX_RANK", "-1"}, {"MLX_HOSTFILE", hosts(kTwo)}}, "not a number");
  expect_refused({{"MLX_RANK", "one"}, {"MLX_HOSTFILE", hosts(kTwo)}}, "'one'");
  expect_refused({{"OMPI_COMM_WORLD_SIZE", "many"}}, "'many'");
  // It would be a run of its own, in the folder of the others.
  const std::string one = R"([["10.0.0.1:32323"]])";
  EXPECT_FALSE(find({{"MLX_RANK", "0"}, {"MLX_HOSTFILE", hosts(one)}}));
  expect_refused({{"MLX_RANK", "1"}, {"MLX_HOSTFILE", hosts(one)}}, "has hosts for 1");
  expect_refused({{"MLX_RANK", "1"}, {"MLX_HOSTFILE", hosts("[]")}}, "has hosts for 1");
  expect_refused({{"MLX_RANK", "one"}, {"MLX_HOSTFILE", hosts(one)}}, "'one'");
}

TEST_F(Launches, HostsThatCannotBeUsedAreRefused) {
  expect_refused({{"MLX_RANK", "0"}}, "MLX_HOSTFILE is not set");
  expect_refused({{"MLX_RANK", "0"}, {"MLX_HOSTFILE", folder_ / "none"}}, "none");
  const std::map<std::string, std::string> whys = {
      {"{", "is not JSON"},
      {R"({"10.0.0.1:5": 1})", "not a list"},
      {"[1, 2]", "rank 0 has no list"},
      {R"([["10.0.0.1:5"], []])", "rank 1 has no list"},
      {"[[1], [2]]", "a host of rank 0 is not text"},
      {R"([["10.0.0.1"], ["10.0.0.2:1"]])", "'10.0.0.1' is not ADDRESS:PORT"},
      {R"([["10.0.0.1:5"], [":5"]])", "':5' is not ADDRESS:PORT"},
      {R"([["10.0.0.1:5x"], ["10.0.0.2:1"]])", "'10.0.0.1:5x' is not ADDRESS:PORT"},
      {R"([["10.0.0.1:0"], ["10.0.0.2:1"]])", "'10.0.0.1:0' is not ADDRESS:PORT"},
      {R"([["10.0.0.1:1"], ["10.0.0.2:99999"]])", "'10.0.0.2:99999' is not ADDRESS:PORT"}};
  for (const auto& [text, why] : whys)
    expect_refused({{"MLX_RANK", "0"}, {"MLX_HOSTFILE", hosts(text)}}, why);
}

TEST_F(Launches, TwoRanksAtOnePlaceAreRefused) {
  expect_refused(
      {{"MLX_RANK", "0"}, {"MLX_HOSTFILE", hosts(R"([["10.0.0.1:5"], ["10.0.0.1:5"]])")}},
      "ranks 0 and 1 are both to listen at 10.0.0.1:5");
}

// Debian's run-time package has no libmpi.so, the name that MLX looks for.
TEST_F(Launches, TheLibraryOfOpenMpiIsFoundOrItsPackageIsNamed) {
  unsetenv("MLX_MPI_LIBNAME");
  std::string message;
  try {
    prepare({"mpi", 0, 4, "", {}});
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    message = error.what();
  }
  const char* const named = std::getenv("MLX_MPI_LIBNAME");
  if (message.empty()) {
    ASSERT_NE(named, nullptr);
    void* const found = dlopen(named, RTLD_LAZY | RTLD_LOCAL);
    EXPECT_NE(found, nullptr) << named;
    if (found) dlclose(found);
  } else {
    EXPECT_EQ(named, nullptr);
    EXPECT_NE(message.find("install libopenmpi3"), std::string::npos) << message;
  }
  unsetenv("MLX_MPI_LIBNAME");
}

TEST_F(Launches, APortThatIsTakenIsNamed) {
  const ListeningSocket other = listen_at("127.0.0.1");
  try {
    prepare({"ring", 3, 4, "127.0.0.1", {{"127.0.0.1", other.port}}});
    FAIL() << "not refused";
  } catch (const base::Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("port " + std::to_string(other.port)), std::string::npos) << message;
    EXPECT_NE(message.find("--starting-port"), std::string::npos) << message;
    EXPECT_EQ(error.exit_code(), 2);
  }
}

}  // namespace
}  // namespace mlx_kd::discover
