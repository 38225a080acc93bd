"""Normalises transcripts and maps them to labels.

In: text as people write it.
Out: text in an alphabet's characters, and labels [labels] int32.
"""
