"""The folder of a generated corpus: complete or missing, with a note of its settings."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils import UserError

# File with the settings of the corpus. A folder without it isn't a corpus of these scripts.
NOTE = "spoken_corpus.json"


def is_complete(corpus_dir: Path, settings: dict[str, Any]) -> bool:
    """Returns whether `corpus_dir` exists with these settings.

    Raises:
        UserError: the folder has other content or settings.
    """
    if not corpus_dir.exists():
        return False
    try:
        made_with = json.loads((corpus_dir / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"{corpus_dir} exists, but isn't a corpus of this script (no readable {NOTE}): choose "
            "another --corpus_dir, or delete it."
        ) from None
    if made_with != settings:
        raise UserError(
            f"{corpus_dir} was made with other flags: {json.dumps(made_with)}, now they are "
            f"{json.dumps(settings)}. Choose another --corpus_dir, or delete it."
        )
    return True


@contextmanager
def create(corpus_dir: Path, settings: dict[str, Any]) -> Iterator[Path]:
    """Yields a temporary folder to write to, which becomes `corpus_dir` at the end of the block.

    Deletes the temporary folder of an interrupted run.
    """
    unfinished_dir = corpus_dir.with_name(f"{corpus_dir.name}.unfinished")
    if unfinished_dir.exists():
        shutil.rmtree(unfinished_dir)
    unfinished_dir.mkdir(parents=True)
    yield unfinished_dir
    (unfinished_dir / NOTE).write_text(json.dumps(settings, indent=2) + "\n")
    unfinished_dir.rename(corpus_dir)
