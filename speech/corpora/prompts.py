"""Reads prompts, the sentences that people are to record."""

import csv
import hashlib
import re

from speech.corpora.formats.reading import read_text, refuse_problems
from speech.recordings.store import Prompt
from utils import UserError, lines_of

_WITH_ID = re.compile(r"[\w.-]+,\S")
_HEADER = "id,text"
_HASH_DIGITS = 12


def read_prompts(path: str) -> list[Prompt]:
    """Reads a text file: one sentence a line, or `id,text` on every line.

    Without ids, a sentence's id is the beginning of its hash, so that it stays the same when lines
    are added or moved. Empty lines are skipped, and a sentence that is repeated.

    Raises:
        UserError: the file can't be read, has no sentence, or the same id twice.
    """
    lines = [(number, line.strip()) for number, line in enumerate(lines_of(read_text(path)), 1)]
    lines = [(number, line) for number, line in lines if line]
    if lines and lines[0][1].lower() == _HEADER:
        del lines[0]
    if not lines:
        raise UserError(f"{path} has no sentences: write one on each line.")
    if all(_WITH_ID.match(line) for _, line in lines):
        return _with_ids(path, lines)
    found: dict[str, Prompt] = {}
    for _, line in lines:
        text = " ".join(line.split())
        found.setdefault(
            text, Prompt(hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS], text)
        )
    return list(found.values())


def _with_ids(path: str, lines: list[tuple[int, str]]) -> list[Prompt]:
    found: dict[str, Prompt] = {}
    problems = []
    for number, line in lines:
        try:
            prompt_id, *rest = next(csv.reader([line]))
        except csv.Error as error:
            problems.append(f"line {number}: {error}")
            continue
        text = " ".join(",".join(rest).split())
        if prompt_id in found:
            problems.append(f"line {number}: the id {prompt_id} is on an earlier line, too")
        if not text:
            problems.append(f"line {number}: {prompt_id} has no text")
        found[prompt_id] = Prompt(prompt_id, text)
    refuse_problems(path, problems)
    return list(found.values())
