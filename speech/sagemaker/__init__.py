"""Runs training and serving in SageMaker's folder layout.

In: a job's configuration.
Out: flags, a model archive.
"""
