target_compile_definitions(mlx_kd_base PRIVATE MLX_KD_VERSION="${PROJECT_VERSION}")
