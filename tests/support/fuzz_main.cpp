// Runs a fuzzer's function without libFuzzer: random inputs, the same in every run, so that what
// the fuzzers call goes on to compile and to hold. MLX_KD_FUZZ_RUNS says how many.
#include "tests/support/fuzz_main.h"

#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

int main(int argc, char** argv) {
  const auto found = fuzzers().find(argc == 2 ? argv[1] : "");
  if (found == fuzzers().end()) {
    std::fprintf(stderr, "usage: fuzz_all FUZZER, one of tests/fuzz/*_fuzz.cpp\n");
    return 2;
  }
  const char* runs = std::getenv("MLX_KD_FUZZ_RUNS");
  const bool is_long = std::getenv("MLX_KD_LONG") != nullptr;
  const long count = runs ? std::atol(runs) : is_long ? 100000 : 1000;
  std::mt19937 random(1);
  for (long i = 0; i < count; ++i) {
    std::vector<uint8_t> input(random() % 128);
    for (uint8_t& byte : input) byte = static_cast<uint8_t>(random());
    found->second(input.data(), input.size());
  }
  std::printf("%ld inputs\n", count);
}
