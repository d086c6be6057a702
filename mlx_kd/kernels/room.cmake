# An operator is a folder <family>/<op>/. What its kernel sources share is spliced into them.
mlx_kd_table(kernels op_table.h MakeOp op_makers "*/*/op.cpp" make_@folder@ "*/*/vjp.cpp" make_@folder@_vjp)
mlx_kd_embed(kernels op_table.h kernel_sources kernels
  TEXTS */*/*.cpu.cpp */*/*.metal */*/*.cu user/*.py */*/reference.py
  SPLICED common/kd_arguments.h common/kd_tensor_maps.h
          */*.cpu.h */*.metal.h */*.cu.h */*/*.cpu.h */*/*.metal.h */*/*.cu.h)
# Without toml++ the files that describe a user's kernel are its heads alone.
find_path(MLX_KD_TOML_INCLUDE toml++/toml.h)
if(MLX_KD_TOML_INCLUDE)
  target_include_directories(mlx_kd_kernels SYSTEM PRIVATE "${MLX_KD_TOML_INCLUDE}")
  target_compile_definitions(mlx_kd_kernels PRIVATE MLX_KD_TOML)
  # Its headers take longer than those of a whole unit.
  set_source_files_properties("${PROJECT_SOURCE_DIR}/mlx_kd/kernels/user/head.cpp" PROPERTIES
    SKIP_UNITY_BUILD_INCLUSION ON)
endif()
