"""From a request to a verified CSF blob: keys, description, cst and its directory, verification."""
