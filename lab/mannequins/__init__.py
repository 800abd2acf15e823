"""The plain head of ComfyUI's expression editor, which `lab.recipe.bake_head` bakes from here; nothing else uses it.

Mini's people are those of `lab.world`.
"""
