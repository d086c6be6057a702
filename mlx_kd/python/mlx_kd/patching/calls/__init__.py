"""What a replaced module calls: one class a kind of module, made from what :mod:`~mlx_kd.patching.structure` found.

Each is made once, when a model is patched, and called with the module's own arguments at every token.
"""
