"""Recognises test sets and measures error rates.

In: a checkpoint and shards.
Out: results, error rates with intervals, reports.
"""
