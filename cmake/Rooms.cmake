# One function per kind of target: a room, what is generated for it, the program, a room's tests.
# Sources are globbed (CONFIGURE_DEPENDS), so that adding a file adds the thing.

function(mlx_kd_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wno-missing-field-initializers)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # False alarms of gcc 12 inside std::string and std::vector (PR 105651, PR 105705).
    target_compile_options(${target} PRIVATE -Wno-restrict -Wno-stringop-overflow)
  endif()
  # Only the compilers that we watch: a newer one may warn of more, and that must not stop a user.
  string(REGEX MATCH "^[0-9]+" version "${CMAKE_CXX_COMPILER_VERSION}")
  if(MLX_KD_WERROR AND "${CMAKE_CXX_COMPILER_ID} ${version}" MATCHES "^(GNU 12|Clang 14)$")
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(MLX_KD_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${MLX_KD_SANITIZE} -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=${MLX_KD_SANITIZE})
  endif()
endfunction()

# mlx_kd_prebuilt(<target> <room> <needed>...): the library of a room that another build folder holds
# already (MLX_KD_PREBUILT), with what it needs.
function(mlx_kd_prebuilt target room)
  add_library(${target} STATIC IMPORTED)
  set_target_properties(${target} PROPERTIES IMPORTED_LOCATION "${MLX_KD_PREBUILT}/libmlx_kd_${room}.a")
  target_include_directories(${target} INTERFACE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${target} INTERFACE ${ARGN} $<TARGET_NAME_IF_EXISTS:ZLIB::ZLIB>)
endfunction()

# mlx_kd_added(<result> <source>...): the sources that the tree of MLX_KD_PREBUILT does not have. Its library
# of kernels has the others; the tables are wanted from the start (-u), so those of this build, which is
# linked first, take the place of its own.
function(mlx_kd_added result)
  file(STRINGS "${MLX_KD_PREBUILT}/CMakeCache.txt" home REGEX "^CMAKE_HOME_DIRECTORY:")
  string(REGEX REPLACE "^[^=]*=" "" home "${home}")
  set(added "")
  foreach(source ${ARGN})
    cmake_path(RELATIVE_PATH source BASE_DIRECTORY "${PROJECT_SOURCE_DIR}" OUTPUT_VARIABLE path)
    if(NOT EXISTS "${home}/${path}")
      list(APPEND added "${source}")
    endif()
  endforeach()
  set(${result} ${added} PARENT_SCOPE)
endfunction()

# mlx_kd_room(<room> [DEPS <room>...] [LIBS <target>...]): target mlx_kd_<room> from mlx_kd/<room>/**.cpp.
# What a room needs besides is in mlx_kd/<room>/room.cmake, which is included when its target is made.
# Kernel sources (<op>.cpu.cpp) are data for the run, never compiled into the program.
function(mlx_kd_room room)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/mlx_kd/${room}/*.cpp")
  list(FILTER sources EXCLUDE REGEX "\\.cpu\\.cpp$|/main\\.cpp$|/devices/cuda/module/")
  if(NOT sources)
    add_library(mlx_kd_${room} INTERFACE)
    list(TRANSFORM ARG_DEPS PREPEND mlx_kd_)
    target_link_libraries(mlx_kd_${room} INTERFACE ${ARG_DEPS} ${ARG_LIBS})
    return()
  endif()
  list(TRANSFORM ARG_DEPS PREPEND mlx_kd_)
  list(APPEND ARG_DEPS ${ARG_LIBS} nlohmann_json::nlohmann_json Threads::Threads ${CMAKE_DL_LIBS})
  if(MLX_KD_PREBUILT AND NOT room STREQUAL "kernels")
    mlx_kd_prebuilt(mlx_kd_${room} ${room} ${ARG_DEPS})
    return()
  elseif(MLX_KD_PREBUILT)
    mlx_kd_added(sources ${sources})
    mlx_kd_prebuilt(mlx_kd_kernels_before kernels ${ARG_DEPS})
    set(tables _ZN6mlx_kd7kernels9op_makersEv _ZN6mlx_kd7kernels14kernel_sourcesEv)
    if(APPLE)
      list(TRANSFORM tables PREPEND _)
    else()
      list(APPEND tables _ZN6mlx_kd7kernels14kernel_sourcesB5cxx11Ev)  # libstdc++'s; the linker ignores a name not found
    endif()
    foreach(table ${tables})
      target_link_options(mlx_kd_kernels_before INTERFACE "LINKER:-u,${table}")
    endforeach()
    list(APPEND ARG_DEPS mlx_kd_kernels_before)
  endif()
  add_library(mlx_kd_${room} STATIC ${sources})
  target_include_directories(mlx_kd_${room} PUBLIC "${PROJECT_SOURCE_DIR}")
  target_link_libraries(mlx_kd_${room} PUBLIC ${ARG_DEPS})
  set(together ${sources})
  list(FILTER together EXCLUDE REGEX "/devices/metal/kind\\.cpp$")  # tests link another in its place
  mlx_kd_compile_together(mlx_kd_${room} ${together})
  mlx_kd_optimise_room(${room})
  mlx_kd_warnings(mlx_kd_${room})
  include("${PROJECT_SOURCE_DIR}/mlx_kd/${room}/room.cmake" OPTIONAL)
endfunction()

# mlx_kd_table(<room> <header> <type> <table> [<pattern> <name>]...): adds a source to the room that
# defines `const std::vector<type*>& table()`, the functions that the room's files define. A file that
# matches a pattern (below mlx_kd/<room>/) defines the function `name`, in which @folder@ and @file@
# are its folder and its own name. The header declares `table` and the function type `type`.
# (A static initialiser that registers itself would be dropped from a static library.)
function(mlx_kd_table room header type table)
  set(functions "")
  set(rules ${ARGN})
  while(rules)
    list(POP_FRONT rules pattern name)
    file(GLOB files CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/mlx_kd/${room}/${pattern}")
    foreach(path ${files})
      cmake_path(GET path STEM file)
      cmake_path(GET path PARENT_PATH folder)
      cmake_path(GET folder FILENAME folder)
      string(CONFIGURE "${name}" function @ONLY)
      list(APPEND functions ${function})
    endforeach()
  endwhile()
  list(JOIN functions ",\n    " functions)
  set(out "${PROJECT_BINARY_DIR}/generated/${table}.cpp")
  file(CONFIGURE OUTPUT "${out}" @ONLY CONTENT
"// Generated by cmake/Rooms.cmake.
#include \"mlx_kd/@room@/@header@\"
namespace mlx_kd::@room@ {
@type@
    @functions@;
const std::vector<@type@*>& @table@() {
  static const std::vector<@type@*> table = {
    @functions@};
  return table;
}
}  // namespace mlx_kd::@room@
")
  target_sources(mlx_kd_${room} PRIVATE "${out}")
endfunction()

# mlx_kd_embed(<room> <header> <table> <folder> TEXTS <pattern>... [SPLICED <pattern>...]): adds a source
# to the room that defines `const std::map<std::string, std::string>& table()`, declared by the header:
# the files of TEXTS as strings by their path below mlx_kd/<folder>, to which patterns are relative too.
# Files of SPLICED take the place of the lines that include them (cmake/EmbedSources.cmake).
function(mlx_kd_embed room header table folder)
  cmake_parse_arguments(ARG "" "" "TEXTS;SPLICED" ${ARGN})
  set(root "${PROJECT_SOURCE_DIR}/mlx_kd/${folder}")
  list(TRANSFORM ARG_TEXTS PREPEND "${root}/")
  list(TRANSFORM ARG_SPLICED PREPEND "${root}/")
  file(GLOB texts CONFIGURE_DEPENDS ${ARG_TEXTS})
  set(spliced "")
  if(ARG_SPLICED)
    file(GLOB spliced CONFIGURE_DEPENDS ${ARG_SPLICED})
  endif()
  set(out "${PROJECT_BINARY_DIR}/generated/${table}.cpp")
  set(script "${PROJECT_SOURCE_DIR}/cmake/EmbedSources.cmake")
  add_custom_command(OUTPUT "${out}"
    COMMAND "${CMAKE_COMMAND}" "-DOUT=${out}" "-DROOM=${room}" "-DHEADER=${header}" "-DTABLE=${table}"
            "-DROOT=${root}" "-DTEXTS=${texts}" "-DSPLICED=${spliced}" -P "${script}"
    DEPENDS ${texts} ${spliced} "${script}" VERBATIM)
  set_source_files_properties("${out}" PROPERTIES
    COMPILE_OPTIONS "$<$<CXX_COMPILER_ID:Clang,AppleClang>:-Wno-overlength-strings>")
  target_sources(mlx_kd_${room} PRIVATE "${out}")
endfunction()

# main.cpp, compiled once for all programs.
function(mlx_kd_main)
  add_library(mlx_kd_main OBJECT "${PROJECT_SOURCE_DIR}/mlx_kd/cli/main.cpp")
  target_link_libraries(mlx_kd_main PRIVATE mlx_kd_cli)
  mlx_kd_optimise(mlx_kd_main 1)
  mlx_kd_warnings(mlx_kd_main)
endfunction()

# mlx_kd_program(<target> <source>...): the program kd, or one like it for tests, in which the sources
# take the place of library members that define the same.
function(mlx_kd_program target)
  add_executable(${target} $<TARGET_OBJECTS:mlx_kd_main> ${ARGN})
  target_link_libraries(${target} PRIVATE mlx_kd_cli)
  mlx_kd_optimise(${target} 0)
  mlx_kd_warnings(${target})
endfunction()

# mlx_kd_discover_tests(<program> <label>): when CTest starts, the program says which tests it has
# (cmake/DiscoverTests.cmake); the limit of an entry is for MLX_KD_LONG and an hour of MLX_KD_STRESS_S.
function(mlx_kd_discover_tests program label)
  set(include "${CMAKE_CURRENT_BINARY_DIR}/${program}_include.cmake")
  set(tests "${CMAKE_CURRENT_BINARY_DIR}/${program}_tests.cmake")
  set(script "${PROJECT_SOURCE_DIR}/cmake/DiscoverTests.cmake")
  file(GENERATE OUTPUT "${include}" CONTENT
"if(NOT EXISTS \"$<TARGET_FILE:${program}>\")
  add_test(${program}_NOT_BUILT ${program}_NOT_BUILT)
  return()
endif()
if(NOT EXISTS \"${tests}\" OR NOT \"${tests}\" IS_NEWER_THAN \"$<TARGET_FILE:${program}>\" OR
   NOT \"${tests}\" IS_NEWER_THAN \"${script}\")
  execute_process(COMMAND \"${CMAKE_COMMAND}\" -DPROGRAM=$<TARGET_FILE:${program}> -DOUT=${tests} -DLABEL=${label}
    -DFOLDER=${CMAKE_CURRENT_BINARY_DIR} -P \"${script}\" COMMAND_ERROR_IS_FATAL ANY)
endif()
include(\"${tests}\")
")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${include}")
endfunction()

# mlx_kd_tests(<room> [LIBS <target>...]): program test_<room> from tests/<room>/*_test.cpp, label <room>.
function(mlx_kd_tests room)
  cmake_parse_arguments(ARG "" "" "LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/${room}/*_test.cpp")
  if(NOT sources)
    return()
  endif()
  add_executable(test_${room} ${sources})
  target_include_directories(test_${room} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(test_${room} PRIVATE ${ARG_LIBS} GTest::gtest_main)
  if(TARGET mlx_kd_${room})
    target_link_libraries(test_${room} PRIVATE mlx_kd_${room})
  endif()
  target_compile_definitions(test_${room} PRIVATE MLX_KD_SOURCE_DIR="${PROJECT_SOURCE_DIR}" MLX_KD_PROGRAM="$<TARGET_FILE:kd>")
  set(MLX_KD_UNITY_SIZE 24)  # their units are mostly the headers that all of them read
  mlx_kd_compile_together(test_${room} ${sources})
  mlx_kd_optimise(test_${room} 0)
  mlx_kd_warnings(test_${room})
  add_dependencies(test_${room} kd)
  mlx_kd_discover_tests(test_${room} ${room})
endfunction()
