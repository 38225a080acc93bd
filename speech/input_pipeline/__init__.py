"""Reads shards into batches for training and evaluation.

In: a `ShardSet`.
Out: tf.data datasets of features, labels and their lengths.
"""
