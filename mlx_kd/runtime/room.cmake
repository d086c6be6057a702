set_target_properties(mlx_kd_runtime PROPERTIES CXX_VISIBILITY_PRESET hidden)  # cmake/exports.map
set(packs "../share/mlx_kd/packs")  # installed; else those of the tree
if(NOT SKBUILD)
  string(APPEND packs ":${PROJECT_SOURCE_DIR}/packs")
endif()
target_compile_definitions(mlx_kd_runtime PRIVATE MLX_KD_SHIPPED_PACKS="${packs}")

# The functions that users call, written from the table of operators by the program of the room codegen:
# the header runtime/call/ops.h, what defines it, the Python bindings and names, two pages of documentation.
# An operator's folder may hold mlx_form.h, which declares <op>_in_mlx.
set(out "${PROJECT_BINARY_DIR}/generated")
set(template "${PROJECT_SOURCE_DIR}/mlx_kd/runtime/call/ops.h.in")
file(GLOB headers CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}"
  "${PROJECT_SOURCE_DIR}/mlx_kd/kernels/*/*/mlx_form.h")
set(forms "")
foreach(header ${headers})
  cmake_path(GET header PARENT_PATH folder)
  cmake_path(GET folder FILENAME op)
  list(APPEND forms "${op}=${header}")
endforeach()
set(functions "${out}/operators.cpp" "${out}/include/mlx_kd/runtime/call/ops.h")
add_custom_command(OUTPUT ${functions} "${out}/python_operators.cpp" "${out}/_operators.py"
    "${out}/docs/operators-cpp.md" "${out}/docs/operators-python.md"
  COMMAND mlx_kd_write_functions "${out}" "${template}" ${forms} DEPENDS "${template}" mlx_kd_write_functions VERBATIM)
target_sources(mlx_kd_runtime PRIVATE ${functions})
target_include_directories(mlx_kd_runtime PUBLIC "${out}/include")
