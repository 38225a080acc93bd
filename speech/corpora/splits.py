"""Splits a corpus into training, development and test sets that share no speaker."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from absl import logging

from speech.corpora.utterance import Utterance
from utils import UserError, is_number

SETS = ("train", "dev", "test")

Shares = tuple[int, int, int]  # percentages of the utterances, in the order of SETS


def parse_shares(text: str) -> Shares:
    """Parses shares such as 70/20/10.

    Raises:
        UserError: they are not three whole numbers that add up to 100, the first above 0.
    """
    parts = [part.strip() for part in text.split("/")]
    if len(parts) != len(SETS) or not all(map(is_number, parts)):
        raise UserError(
            f"--split={text} is not three whole numbers: give the percentages of the training, "
            "development and test sets, as in --split=70/20/10."
        )
    train, dev, test = (int(part) for part in parts)
    if train + dev + test != 100:
        raise UserError(
            f"--split={text} adds up to {train + dev + test}: give three percentages that add up "
            "to 100, as in --split=70/20/10."
        )
    if not train:
        raise UserError(
            f"--split={text} leaves no training set: raise the first percentage above 0."
        )
    return train, dev, test


def split(
    utterances: Sequence[Utterance], shares: Shares = (70, 20, 10), random_seed: int = 0
) -> dict[str, list[Utterance]]:
    """Assigns speakers to sets, so that each set has about its share of the utterances.

    The result depends neither on the order of the utterances nor on the path of the corpus.
    Utterances with an unknown speaker count as one speaker per recording; a warning reports their
    number.

    Speakers with more utterances than the smallest set are assigned first, the largest before
    the others; all others follow in the order of a hash of their name and the seed. A speaker is
    assigned to the first set with enough room, else to the set with most room.

    Returns:
        set of SETS -> its utterances, in their original order; empty for a share of 0.

    Raises:
        UserError: there are fewer speakers than sets with a share.
    """
    _warn_about_unknown(utterances)
    speakers: defaultdict[str, list[Utterance]] = defaultdict(list)
    for each in utterances:
        speakers[_voice(each)].append(each)
    wanted = {name: share for name, share in zip(SETS, shares, strict=True) if share}
    if len(speakers) < len(wanted):
        raise UserError(
            f"The corpus has {len(speakers)} speakers, too few for {', '.join(wanted)}. Name the "
            "files of the sets with --train_files, --dev_files and --test_files, or the speakers "
            "with --id_pattern."
        )
    set_of: dict[str, str] = {}
    room = {name: share * len(utterances) for name, share in wanted.items()}  # hundredths
    empty = set(wanted)
    ordered = _order(speakers, min(room.values()), random_seed)
    for assigned, speaker in enumerate(ordered):
        size = 100 * len(speakers[speaker])
        # The last speakers are reserved for empty sets.
        allowed = empty if len(ordered) - assigned == len(empty) else room.keys()
        candidates = [name for name in room if name in allowed]
        fitting = [name for name in candidates if room[name] >= size]
        chosen = fitting[0] if fitting else max(candidates, key=lambda name: room[name])
        set_of[speaker] = chosen
        room[chosen] -= size
        empty.discard(chosen)
    sets: dict[str, list[Utterance]] = {name: [] for name in SETS}
    for each in utterances:
        sets[set_of[_voice(each)]].append(each)
    return sets


def _voice(utterance: Utterance) -> str:
    """Returns a key of the speaker, or of the recording if the speaker is unknown."""
    if utterance.speaker:
        return f"speaker {utterance.speaker}"
    return f"recording {utterance.audio_path or utterance.utterance_id}"


def _warn_about_unknown(utterances: Sequence[Utterance]) -> None:
    unknown = sum(not each.speaker for each in utterances)
    if unknown:
        logging.warning(
            "The speaker of %d of %d utterances is unknown: the same voice may be in several sets.",
            unknown,
            len(utterances),
        )


def _order(speakers: dict[str, list[Utterance]], smallest_room: int, random_seed: int) -> list[str]:
    """Returns the speakers in the order of assignment."""

    def key(speaker: str) -> tuple[int, str, str]:
        spoken = speakers[speaker]
        first_id = min(each.utterance_id for each in spoken)
        name = spoken[0].speaker or _below_folder(first_id)
        large = 100 * len(spoken) > smallest_room
        digest = hashlib.sha256(repr((random_seed, name)).encode()).hexdigest()
        return (-len(spoken) if large else 0), digest, first_id

    return sorted(speakers, key=key)


def _below_folder(utterance_id: str) -> str:
    """Returns the part of an id that stays the same when the corpus is moved or renamed.

    An id begins with the name of the folder.
    """
    folder, slash, below = utterance_id.partition("/")
    return below if slash else folder
