mlx_kd_table(devices registry.h MakeKind kind_makers "*/kind.cpp" kind_@folder@)
