"""Who is calling, how callers prove it, and what each may sign."""
