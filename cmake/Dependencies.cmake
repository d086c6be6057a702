# What the project stands on, found where the system or the virtual environment has it.
find_package(Threads REQUIRED)
include(HeaderLibraries)
find_package(ZLIB)  # without it, recorded runs are read uncompressed only

# MLX comes as a wheel: MLX_KD_MLX_DIR names its package folder (python -m mlx --cmake-dir).
set(MLX_KD_MLX_DIR "" CACHE PATH "Folder of the installed mlx Python package")
if(NOT MLX_KD_MLX_DIR AND Python_EXECUTABLE)
  set(MLX_KD_PYTHON "${Python_EXECUTABLE}" CACHE FILEPATH "Python that has MLX")  # pip builds with this one
endif()
if(NOT MLX_KD_MLX_DIR)
  find_program(MLX_KD_PYTHON NAMES python3 HINTS "${CMAKE_SOURCE_DIR}/.venv/bin" NO_DEFAULT_PATH)
  find_program(MLX_KD_PYTHON NAMES python3)
  execute_process(COMMAND "${MLX_KD_PYTHON}" -m mlx --cmake-dir
    OUTPUT_VARIABLE MLX_KD_MLX_FOUND OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  set(MLX_KD_MLX_DIR "${MLX_KD_MLX_FOUND}" CACHE PATH "Folder of the installed mlx Python package" FORCE)
endif()
find_library(MLX_KD_MLX_LIBRARY mlx PATHS "${MLX_KD_MLX_DIR}/lib" "${MLX_KD_MLX_DIR}/lib64" NO_DEFAULT_PATH)
if(NOT MLX_KD_MLX_LIBRARY)
  message(FATAL_ERROR "[cmake] MLX is not in '${MLX_KD_MLX_DIR}': run ./kd, or pip install 'mlx[cpu]' and pass "
    "-DMLX_KD_MLX_DIR=$(python -m mlx --cmake-dir)")
endif()
# Linked directly: the CUDA wheel's MLXConfig asks for cuDNN headers that nothing here needs.
add_library(mlx_kd_mlx INTERFACE)
target_include_directories(mlx_kd_mlx SYSTEM INTERFACE "${MLX_KD_MLX_DIR}/include")
target_link_libraries(mlx_kd_mlx INTERFACE "${MLX_KD_MLX_LIBRARY}")
if(APPLE)
  target_include_directories(mlx_kd_mlx SYSTEM INTERFACE "${MLX_KD_MLX_DIR}/include/metal_cpp")
endif()
