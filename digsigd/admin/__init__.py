"""`digsigd`: commands for operators of a signing host."""
