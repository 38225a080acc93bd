"""What every door uses: files here or in a bucket, locks, worker processes, logging, exit statuses.

In: paths, functions to run.
Out: bytes, results in order, exit statuses.
"""
