"""Metrics of a host: counted in memory that its processes share, shown in the forms of Prometheus."""
