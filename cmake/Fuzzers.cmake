# Fuzzers: tests/fuzz/<name>_fuzz.cpp becomes the program fuzz_<name>. Each file defines
# LLVMFuzzerTestOneInput and names the rooms that it needs in its first line: "// rooms: msl packs".
#
# With the tests each is a test, fuzz.<name>, of a thousand random inputs (tests/support/fuzz_main.cpp).
#
# libFuzzer belongs to clang, so the whole build has to use it: the preset `fuzz`. There each fuzzer is
# a test, fuzz.<name>, of MLX_KD_FUZZ_RUNS inputs (100000):
#   MLX_KD_FUZZ_RUNS=1000000 KD_PRESET=fuzz ./kd test -R fuzz.pack
option(MLX_KD_BUILD_FUZZERS "Build the fuzzers of tests/fuzz (needs clang)" OFF)

# All rooms are built with the address and undefined-behaviour sanitizers and with coverage: call it
# before the rooms are made.
function(mlx_kd_fuzzers_prepare)
  if(NOT MLX_KD_BUILD_FUZZERS)
    return()
  endif()
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "[cmake] fuzzers need clang's libFuzzer: pass -DCMAKE_CXX_COMPILER=clang++")
  endif()
  # MLX keeps the type information of its primitives to itself, so -fsanitize=vptr would not link.
  set(flags -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=vptr -fno-sanitize-recover=undefined
      -fno-omit-frame-pointer)
  add_compile_options(${flags})
  add_link_options(-fsanitize=address,undefined)
endfunction()

# mlx_kd_fuzzers(): one program a file of tests/fuzz. Call it behind the rooms.
function(mlx_kd_fuzzers)
  if(NOT MLX_KD_BUILD_FUZZERS AND NOT MLX_KD_BUILD_TESTS)
    return()
  endif()
  enable_testing()
  file(GLOB files CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/fuzz/*_fuzz.cpp")
  foreach(file ${files})
    get_filename_component(name "${file}" NAME_WE)
    string(REGEX REPLACE "_fuzz$" "" name "${name}")
    file(STRINGS "${file}" first LIMIT_COUNT 1)
    if(NOT first MATCHES "^// rooms: ([a-z ]+)$")
      message(FATAL_ERROR "[cmake] ${file}: the first line must name its rooms, as '// rooms: msl packs'")
    endif()
    string(REPLACE " " ";mlx_kd_" rooms "mlx_kd_${CMAKE_MATCH_1}")
    add_executable(fuzz_${name} "${file}")
    target_include_directories(fuzz_${name} PRIVATE "${PROJECT_SOURCE_DIR}")
    target_link_libraries(fuzz_${name} PRIVATE ${rooms})
    mlx_kd_warnings(fuzz_${name})
    if(MLX_KD_BUILD_FUZZERS)
      target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
      set(command "exec \"$0\" -runs=\"\${MLX_KD_FUZZ_RUNS:-100000}\" -rss_limit_mb=2048 -print_final_stats=1")
      add_test(NAME fuzz.${name} COMMAND sh -c "${command}" $<TARGET_FILE:fuzz_${name}>)
    else()
      target_sources(fuzz_${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests/support/fuzz_main.cpp")
      add_test(NAME fuzz.${name} COMMAND fuzz_${name})
    endif()
    set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz TIMEOUT 36000)
  endforeach()
endfunction()
