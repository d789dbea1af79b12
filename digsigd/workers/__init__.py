"""More than one process: a supervisor, and workers that share its ports and the limits of the host."""
