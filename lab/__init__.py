"""How Mini was made and how the method was measured; nothing that users install imports it."""
