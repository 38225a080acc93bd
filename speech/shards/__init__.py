"""Writes, finds, verifies and uploads shards of TFRecords and their index.

In: features and labels of utterances.
Out: shard files with checksums, `ShardSet`.
"""
