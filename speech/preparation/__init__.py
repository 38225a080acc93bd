"""Turns utterances into shards, locally or on Apache Beam.

In: utterances and settings.
Out: shards, statistics, CSV files.
"""
