"""What digsigd costs on top of cst: paired measurements, growth and profiles. `make bench` runs it; not installed."""
