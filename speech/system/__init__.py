"""Runs every door alike: files here or in a bucket, locks, worker processes, logging.

In: paths, functions to run.
Out: bytes, results in order, exit codes.
"""
