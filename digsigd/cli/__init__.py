"""The command line of `digsign`: one module for each command, imported when it is used."""
