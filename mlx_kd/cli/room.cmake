mlx_kd_table(cli verb_table.h AddVerb verbs "verbs/*.cpp" add_@file@)
