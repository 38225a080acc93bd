"""Reads corpora, one module a format; `registry` has their names.

In: a path and how to read it.
Out: utterances with transcripts, audio and places in the corpus.
"""
