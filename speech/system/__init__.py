"""Provides what every door needs: local and bucket files, locks, worker processes, logging.

In: paths, functions to run.
Out: bytes, results in order, exit statuses.
"""
