"""Stores a corpus that people record in the web page: prompts, speakers, and takes."""
