mlx_kd_embed(shapes tracked_configs.h tracked_config_files shapes TEXTS tracked_configs.json)
