"""Holds the models of the server, transcribes recordings, and recognises test sets.

In: options and samples.
Out: results for the routers.
"""
