# What keeps a cold build short. Most of a unit's time goes into the headers that it reads (MLX, JSON,
# CLI11, GoogleTest) and into code that they make it generate again, so the sources of a folder are
# compiled together, a few at a time; what is not hot is optimised less. (Precompiled headers save a
# tenth of a unit and take as long as a unit to make; linking takes 4 s in all: neither pays.)
option(MLX_KD_UNITY "Compile the sources of a folder together, several to a unit" ON)

# The most sources of a unit: an edit compiles one unit again.
set(MLX_KD_UNITY_SIZE 12)

# mlx_kd_compile_together(<target> <source>...): a unit holds one folder, several small ones, or an even
# part of a large one. Names in anonymous namespaces must therefore differ within a folder. An operator
# shares a unit too if it has none, or has them in a namespace of its own (docs/add-an-operator.md).
function(mlx_kd_compile_together target)
  if(NOT MLX_KD_UNITY)
    return()
  endif()
  set(folders "")
  foreach(source ${ARGN})
    cmake_path(GET source PARENT_PATH folder)
    if(source MATCHES "/kernels/.+/(op|vjp)\\.cpp$")
      cmake_path(GET folder FILENAME op)
      cmake_path(GET folder PARENT_PATH family)
      cmake_path(GET family FILENAME family)
      file(STRINGS "${source}" own REGEX "^namespace [a-z0-9_]+ {$")
      if(NOT family STREQUAL op)
        list(REMOVE_ITEM own "namespace ${family} {")
      endif()
      file(STRINGS "${source}" local REGEX "^namespace {$" LIMIT_COUNT 1)
      if(local AND NOT own)
        continue()
      endif()
    endif()
    list(APPEND folders "${folder}")
    list(APPEND "sources_${folder}" "${source}")
  endforeach()
  list(REMOVE_DUPLICATES folders)
  set(unit 0)
  set(held ${MLX_KD_UNITY_SIZE})
  foreach(folder ${folders})
    list(LENGTH "sources_${folder}" count)
    math(EXPR parts "(${count} + ${MLX_KD_UNITY_SIZE} - 1) / ${MLX_KD_UNITY_SIZE}")
    math(EXPR most "(${count} + ${parts} - 1) / ${parts}")
    math(EXPR together "${held} + ${count}")
    if(together GREATER MLX_KD_UNITY_SIZE)
      set(held ${most})  # the folder begins a unit
    else()
      set(most ${MLX_KD_UNITY_SIZE})
    endif()
    foreach(source ${sources_${folder}})
      if(NOT held LESS most)
        math(EXPR unit "${unit} + 1")
        set(held 0)
      endif()
      set_property(SOURCE "${source}" PROPERTY UNITY_GROUP ${unit})
      math(EXPR held "${held} + 1")
    endforeach()
  endforeach()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
endfunction()

# GCC frees memory less often than it does by itself: a unit of MLX's and JSON's headers takes 4 to 15 % less time
# and 630 MB in place of 475.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options(--param=ggc-min-heapsize=1048576 --param=ggc-min-expand=200)
endif()

# mlx_kd_optimise(<target> <level>): in a release, -O<level> in place of CMake's -O3. Code that touches
# elements is compiled at run time, by options of its own. Level 2 compiles in four fifths of the time of
# level 3, level 1 in four fifths of that of level 2, level g in four fifths of that of level 1, and tests at
# level 0 in two thirds of the time of level 1.
function(mlx_kd_optimise target level)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O${level}>)
endfunction()

# mlx_kd_optimise_room(<room>): the search computes much in its own loops and keeps level 3; a call, or the
# comparison of a proof, passes through the rooms of level 2; the float64 references of kernels, which take
# twice as long at level g, are in those of level 1; what is left runs once a command.
function(mlx_kd_optimise_room room)
  if(room MATCHES "^(base|spec|evaluate|runtime)$")
    mlx_kd_optimise(mlx_kd_${room} 2)
  elseif(room MATCHES "^(devices|kernels|msl|python)$")
    mlx_kd_optimise(mlx_kd_${room} 1)
  elseif(NOT room STREQUAL "search")
    mlx_kd_optimise(mlx_kd_${room} g)
  endif()
endfunction()
