"""How `digsigd.client` does it; not for other programs, and free to change."""
