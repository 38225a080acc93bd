"""Reads shards and gives batches for training and evaluation.

In: shards, `TrainingInput`.
Out: input functions of features and labels; features and transcripts as they are stored.
"""
