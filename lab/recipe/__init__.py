"""How the Mini checkpoint is made."""
