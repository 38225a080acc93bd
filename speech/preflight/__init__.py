"""Checks a corpus before it is prepared: what would harm a training.

In: utterances of sets and their settings.
Out: findings, in the terminal and as a page with players.
"""
