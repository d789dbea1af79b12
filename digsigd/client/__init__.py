"""A client of signing hosts: an asynchronous API on treq, and the settings that find a host."""
