"""Sign a whole image: choose the keys, describe and sign each part, insert the CSF blobs, and verify the result."""
