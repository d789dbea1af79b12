"""The HTTP client layer: bounded headers and bodies, single exchanges, retries, and the causes of failures.

It holds no policy. `digsigd.keys` and the client decide which answers to retry and how to word an error.
"""
