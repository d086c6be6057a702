mlx_kd_table(cli verbs.h AddVerb verbs "verbs/*.cpp" add_@file@)
