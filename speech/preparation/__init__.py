"""Turns utterances into shards, here or on Beam, and checks corpora before it.

In: utterances and settings.
Out: shards, statistics, CSV files, reports of problems.
"""
