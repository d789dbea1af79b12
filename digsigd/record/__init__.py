"""The record: who signed what, in a Merkle tree that shows every later change."""
