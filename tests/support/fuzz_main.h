// The fuzzers of tests/fuzz by name, for a program without libFuzzer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

using Fuzzer = int(const uint8_t* data, size_t size);

const std::map<std::string, Fuzzer*>& fuzzers();
