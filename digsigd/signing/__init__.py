"""Sign a request: check keys and CSF description, run cst in a work directory, verify the CSF blob."""
