"""HTTP as every client of ours needs it: bounded answers, one exchange at a time, further tries, and why one failed.

It decides nothing: which answers are worth another try and what an error says is for `digsigd.keys` and the client.
"""
