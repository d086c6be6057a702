add_executable(mlx_kd_write_functions "${PROJECT_SOURCE_DIR}/mlx_kd/codegen/main.cpp")
target_link_libraries(mlx_kd_write_functions PRIVATE mlx_kd_codegen)
mlx_kd_warnings(mlx_kd_write_functions)
