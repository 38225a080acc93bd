"""Runs `prepare_csv.py --check`."""

from collections.abc import Mapping, Sequence

import constants
from speech.preflight import examine, page, terminal
from speech.preparation.sets import CorpusSet
from speech.shards.index import ShardSettings
from utils import UserError


def check_sets(
    sets: Sequence[CorpusSet], settings_of: Mapping[str, ShardSettings], workers: int
) -> None:
    """Prints and writes what would harm training.

    Raises:
        UserError: there are errors, or the report can't be written.
    """
    utterances = {each.name: each.utterances for each in sets}
    settings = dict(settings_of)
    found = examine.examine(utterances, settings, workers)
    print(terminal.report(found))
    print(terminal.write_table(constants.REPORT_DIR, found))
    print(page.write(constants.REPORT_DIR, found, settings))
    if found.errors:
        raise UserError(terminal.verdict(found))
