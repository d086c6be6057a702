set_target_properties(mlx_kd_runtime PROPERTIES CXX_VISIBILITY_PRESET hidden)  # cmake/exports.map
set(packs "../share/mlx_kd/packs")  # installed; else those of the tree
if(NOT SKBUILD)
  string(APPEND packs ":${PROJECT_SOURCE_DIR}/packs")
endif()
target_compile_definitions(mlx_kd_runtime PRIVATE MLX_KD_SHIPPED_PACKS="${packs}")
