"""What every corpus becomes: utterances."""

from dataclasses import dataclass, replace

from utils import UserError

# Between an utterance's id and the number of its copy: 4088-158079-0015#1.
COPY_MARK = "#"


@dataclass(frozen=True)
class Utterance:
    """One stretch of speech and what was said."""

    utterance_id: str  # unique in its corpus, e.g. 4088-158079-0015
    audio_path: str | None  # local or gs://; None: a transcript without audio
    transcript: str | None  # None: audio without transcript
    speaker: str  # who speaks, e.g. 4088; the same in every utterance of a person; "": unknown
    # Of the audio's file, so that a mended corpus is found out; None: it isn't there.
    audio_bytes: int | None = None
    copy: int = 0  # of an augmented copy, from 1 on; 0: the recording as it is
    start_seconds: float = 0.0  # where in its file it begins
    seconds: float | None = None  # how long it is in there; None: to the file's end
    # What the corpus says of it, to be compared with what is there; None: nothing.
    stated_bytes: int | None = None  # of the audio's file
    stated_seconds: float | None = None  # of the audio
    place: str = ""  # where the corpus tells of it, e.g. data/train.csv:17, for messages

    @property
    def recorded_id(self) -> str:
        """The id of the utterance that this is a copy of, or its own."""
        return self.utterance_id.removesuffix(f"{COPY_MARK}{self.copy}")


def transcript_of(text: str) -> str | None:
    """A transcript as it is written; None if there is nothing in it but blanks."""
    return text if text.strip() else None


def with_copies(utterances: list[Utterance], copies: int) -> list[Utterance]:
    """Each utterance and right behind it its copies, for augmentation; what lacks audio or
    transcript has none.

    Raises:
        UserError: a copy would have the id of another utterance.
    """
    if not copies:
        return utterances
    known = {each.utterance_id for each in utterances}
    copied: list[Utterance] = []
    for each in utterances:
        copied.append(each)
        if each.audio_path is None or each.transcript is None:
            continue
        for copy in range(1, copies + 1):
            utterance_id = f"{each.utterance_id}{COPY_MARK}{copy}"
            if utterance_id in known:
                raise UserError(
                    f"The utterance {utterance_id} has the name that a copy of {each.utterance_id} "
                    "is to have: rename its file, or leave out --augment."
                )
            copied.append(replace(each, utterance_id=utterance_id, copy=copy))
    return copied
