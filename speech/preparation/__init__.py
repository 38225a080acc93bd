"""Turns utterances into shards, here or on Beam.

In: utterances and settings.
Out: shards, statistics, CSV files.
"""
