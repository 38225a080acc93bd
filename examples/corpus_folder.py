"""A folder that a script fills: complete or not there, and told apart by what was asked for."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils import UserError

# What was asked for, beside what was made. A folder without it was not made by these scripts.
NOTE = "spoken_corpus.json"


def is_there(corpus_dir: Path, asked: dict[str, Any]) -> bool:
    """Whether `corpus_dir` is complete, as asked for. False if there is no such folder.

    Raises:
        UserError: something else is in its place.
    """
    if not corpus_dir.exists():
        return False
    try:
        made_with = json.loads((corpus_dir / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"{corpus_dir} is there, but it is not a corpus of this script (no readable {NOTE}): "
            "choose another --corpus_dir, or delete it."
        ) from None
    if made_with != asked:
        raise UserError(
            f"{corpus_dir} was made with other flags: {json.dumps(made_with)}, now they are "
            f"{json.dumps(asked)}. Choose another --corpus_dir, or delete it."
        )
    return True


@contextmanager
def growing(corpus_dir: Path, asked: dict[str, Any]) -> Iterator[Path]:
    """A folder beside `corpus_dir` to write to, which takes its name when the block has ended.

    What an interrupted run left there is deleted.
    """
    unfinished_dir = corpus_dir.with_name(f"{corpus_dir.name}.unfinished")
    if unfinished_dir.exists():
        shutil.rmtree(unfinished_dir)
    unfinished_dir.mkdir(parents=True)
    yield unfinished_dir
    (unfinished_dir / NOTE).write_text(json.dumps(asked, indent=2) + "\n")
    unfinished_dir.rename(corpus_dir)
