"""Does the work of the server: models, batches, recognition, test sets.

In: options and samples.
Out: results for the routers.
"""
