# The module libmlx_kd_cuda_native: kernels as nodes of MLX's own CUDA graphs (docs/cuda.md). It is built where
# three sets of headers are found, and nothing else in the tree needs them:
#   MLX's, of any of its wheels (the CPU's has those for CUDA too);
#   CUDA's runtime: MLX_KD_CUDA_HEADERS, CUDA_HOME, CUDA_PATH, /usr/local/cuda, or the wheels nvidia-cuda-runtime
#   and nvidia-cuda-crt (CUDA 12: nvidia-cuda-nvcc-cu12) beside MLX;
#   fmt's: libfmt-dev, or MLX_KD_FMT_HEADERS.
option(MLX_KD_CUDA_NATIVE "Build the module for MLX's CUDA graphs where its headers are found" ON)
set(MLX_KD_CUDA_HEADERS "" CACHE PATH "Folder of CUDA's runtime headers (cuda_runtime.h)")
set(MLX_KD_FMT_HEADERS "" CACHE PATH "Folder that holds fmt/format.h")

# The MLX headers that `header` includes, itself among them, as paths below MLX's include folder.
function(mlx_kd_mlx_headers_of header result)
  set(found ${${result}})
  if(NOT "${header}" IN_LIST found)
    list(APPEND found "${header}")
    file(STRINGS "${MLX_KD_MLX_DIR}/include/${header}" lines REGEX "^#include \"mlx/")
    foreach(line ${lines})
      string(REGEX REPLACE "^#include \"([^\"]+)\".*" "\\1" included "${line}")
      mlx_kd_mlx_headers_of("${included}" found)
    endforeach()
  endif()
  set(${result} ${found} PARENT_SCOPE)
endfunction()

function(mlx_kd_cuda_native)
  # Beside MLX, of CUDA's major version that its library was built for.
  set(wheels "${MLX_KD_MLX_DIR}/../nvidia")
  find_path(MLX_KD_CUDA_RUNTIME_DIR cuda_runtime.h NO_DEFAULT_PATH PATHS "${MLX_KD_CUDA_HEADERS}"
    "$ENV{CUDA_HOME}/include" "$ENV{CUDA_PATH}/include" "${wheels}/cu13/include"
    "${wheels}/cuda_runtime/include" /usr/local/cuda/include)
  find_path(MLX_KD_CUDA_CRT_DIR crt/host_config.h NO_DEFAULT_PATH PATHS "${MLX_KD_CUDA_RUNTIME_DIR}"
    "${wheels}/cuda_nvcc/include")
  find_path(MLX_KD_FMT_DIR fmt/format.h HINTS "${MLX_KD_FMT_HEADERS}")
  set(missing "")
  foreach(need "MLX_KD_CUDA_RUNTIME_DIR:CUDA's runtime headers (cuda_runtime.h)"
               "MLX_KD_CUDA_CRT_DIR:CUDA's headers crt/" "MLX_KD_FMT_DIR:fmt's headers (libfmt-dev)")
    string(REGEX MATCH "^[^:]+" name "${need}")
    if(NOT ${name})
      string(REGEX REPLACE "^[^:]+:" "" what "${need}")
      list(APPEND missing "${what}")
    endif()
  endforeach()
  if(NOT EXISTS "${MLX_KD_MLX_DIR}/include/mlx/backend/cuda/device.h")
    list(APPEND missing "MLX's CUDA headers (0.32.4 and later have them)")
  endif()
  if(missing)
    list(JOIN missing ", " text)
    message(STATUS "libmlx_kd_cuda_native is not built: ${text} not found")
    return()
  endif()

  set(headers "")
  mlx_kd_mlx_headers_of(mlx/backend/cuda/device.h headers)
  mlx_kd_mlx_headers_of(mlx/version.h headers)
  list(SORT headers)
  set(hashes "")
  foreach(header ${headers})
    file(SHA256 "${MLX_KD_MLX_DIR}/include/${header}" hash)
    string(APPEND hashes "${header}=${hash}\\;")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${MLX_KD_MLX_DIR}/include/${header}")
  endforeach()
  file(STRINGS "${MLX_KD_MLX_DIR}/include/mlx/version.h" version REGEX "define MLX_VERSION_(MAJOR|MINOR|PATCH)")
  string(REGEX REPLACE "[^0-9;]" "" version "${version}")
  string(REPLACE ";" "." version "${version}")

  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/mlx_kd/devices/cuda/module/*.cpp")
  add_library(mlx_kd_cuda_native MODULE ${sources})
  target_include_directories(mlx_kd_cuda_native PRIVATE "${PROJECT_SOURCE_DIR}")
  target_include_directories(mlx_kd_cuda_native SYSTEM PRIVATE "${MLX_KD_CUDA_RUNTIME_DIR}"
    "${MLX_KD_CUDA_CRT_DIR}" "${MLX_KD_FMT_DIR}")
  target_link_libraries(mlx_kd_cuda_native PRIVATE mlx_kd_mlx)
  # Against the CPU's MLX nothing is resolved, and a linker drops it. Python loads MLX for itself alone, so that the
  # module finds MLX's symbols through its own need of it.
  target_link_options(mlx_kd_cuda_native PRIVATE "LINKER:--no-as-needed")
  target_compile_definitions(mlx_kd_cuda_native PRIVATE FMT_HEADER_ONLY
    "MLX_KD_NATIVE_MLX_VERSION=\"${version}\"" "MLX_KD_NATIVE_HEADERS=\"${hashes}\"")
  # What the CUDA library of MLX lacks at link time is looked for when the module is loaded.
  set_target_properties(mlx_kd_cuda_native PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  mlx_kd_warnings(mlx_kd_cuda_native)
  if(MLX_KD_BUILD_PACKAGE OR MLX_KD_BUILD_PYTHON)
    install(TARGETS mlx_kd_cuda_native LIBRARY DESTINATION lib COMPONENT mlx_kd)
    add_dependencies(mlx_kd_shared mlx_kd_cuda_native)  # who installs the package builds no more than its parts
  endif()
  message(STATUS "libmlx_kd_cuda_native: MLX ${version}, CUDA's headers in ${MLX_KD_CUDA_RUNTIME_DIR}")
endfunction()

if(MLX_KD_CUDA_NATIVE AND NOT APPLE AND NOT MLX_KD_PREBUILT)
  mlx_kd_cuda_native()
endif()
