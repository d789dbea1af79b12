"""Man pages and shell completions, made from the command lines and from etc/digsigd.toml."""
