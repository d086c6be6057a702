if(TARGET ZLIB::ZLIB)
  target_link_libraries(mlx_kd_archive PRIVATE ZLIB::ZLIB)
  target_compile_definitions(mlx_kd_archive PRIVATE MLX_KD_ZLIB)
endif()
