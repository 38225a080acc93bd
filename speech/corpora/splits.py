"""A corpus without sets of its own -> training, development and test sets, speakers kept apart."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from absl import logging

from speech.corpora.utterance import Utterance
from utils import UserError, is_number

SETS = ("train", "dev", "test")

Shares = tuple[int, int, int]  # per cent of the utterances, of SETS


def parse_shares(text: str) -> Shares:
    """Reads shares such as 70/20/10.

    Raises:
        UserError: they are not three whole numbers that add up to 100, the first above 0.
    """
    parts = [part.strip() for part in text.split("/")]
    if len(parts) != len(SETS) or not all(map(is_number, parts)):
        raise UserError(
            f"--split={text} is not three whole numbers: give the per cent of training, "
            "development and test set, as in --split=70/20/10."
        )
    train, dev, test = (int(part) for part in parts)
    if train + dev + test != 100:
        raise UserError(
            f"--split={text} adds up to {train + dev + test}: the three shares must make 100, as "
            "in --split=70/20/10."
        )
    if not train:
        raise UserError(f"--split={text} leaves nothing to train on: give the first share more.")
    return train, dev, test


def split(
    utterances: Sequence[Utterance], shares: Shares = (70, 20, 10), random_seed: int = 0
) -> dict[str, list[Utterance]]:
    """Deals the speakers out to the sets, so that each set has about its share of the utterances.

    Neither the order of the utterances nor the place of their corpus or its folder's name matters.
    Utterances whose speaker is unknown count each as a speaker of its own, but those of one
    recording stay together; a warning tells how many there are.

    A speaker with more utterances than the smallest set is to have is dealt out before the
    others, the one with most first; the others come in the order of a hash of their name and the
    seed. Each goes to the first set that has room for it, else to the one that lacks most.

    Returns:
        set of SETS -> its utterances, in the order they were given; of a share of 0, none.

    Raises:
        UserError: there are fewer speakers than sets with a share.
    """
    _warn_of_unknown(utterances)
    speakers: defaultdict[str, list[Utterance]] = defaultdict(list)
    for each in utterances:
        speakers[_voice(each)].append(each)
    wanted = {name: share for name, share in zip(SETS, shares, strict=True) if share}
    if len(speakers) < len(wanted):
        raise UserError(
            f"There are {len(speakers)} speakers, and each of {', '.join(wanted)} needs one of its "
            "own. Name the sets' files with --train_files, --dev_files and --test_files, or say "
            "with --id_pattern who speaks."
        )
    set_of: dict[str, str] = {}
    room = {name: share * len(utterances) for name, share in wanted.items()}  # hundredths
    empty = set(wanted)
    ordered = _in_order(speakers, min(room.values()), random_seed)
    for dealt, speaker in enumerate(ordered):
        size = 100 * len(speakers[speaker])
        # The last speakers are for the sets that have none yet.
        open_to = empty if len(ordered) - dealt == len(empty) else room.keys()
        candidates = [name for name in room if name in open_to]
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
    """What stands for a speaker: who it is, or else the recording."""
    if utterance.speaker:
        return f"speaker {utterance.speaker}"
    return f"recording {utterance.audio_path or utterance.utterance_id}"


def _warn_of_unknown(utterances: Sequence[Utterance]) -> None:
    unknown = sum(not each.speaker for each in utterances)
    if unknown:
        logging.warning(
            "Nobody says who speaks in %d of %d utterances: "
            "the same voice will be in several sets.",
            unknown,
            len(utterances),
        )


def _in_order(
    speakers: dict[str, list[Utterance]], smallest_room: int, random_seed: int
) -> list[str]:
    def order(speaker: str) -> tuple[int, str, str]:
        spoken = speakers[speaker]
        first_id = min(each.utterance_id for each in spoken)
        name = spoken[0].speaker or _below_folder(first_id)
        large = 100 * len(spoken) > smallest_room
        digest = hashlib.sha256(repr((random_seed, name)).encode()).hexdigest()
        return (-len(spoken) if large else 0), digest, first_id

    return sorted(speakers, key=order)


def _below_folder(utterance_id: str) -> str:
    """What of an unknown speaker's id stays when the corpus is moved or its folder renamed.

    Paths are others on another machine, and an id begins with the name of the folder.
    """
    folder, slash, below = utterance_id.partition("/")
    return below if slash else folder
