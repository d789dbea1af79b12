"""A signature provider for SPSDK: `nxpimage ahab sign`, `export` and `re-sign` with the keys of a signing host.

SPSDK finds it by the entry point `digsigd` of the group `spsdk.sp`; docs/spsdk.md shows how it is used. It is a client
like any other: it uploads the images that a container names, the host proves the container as it does for everybody,
and only then the provider hands SPSDK the signature. No part of the host signs bytes that it was merely given.
"""
