"""`Utterance`, the common form of all corpora."""

from dataclasses import dataclass, replace

from utils import UserError

# Between an utterance's id and the number of its copy: 4088-158079-0015#1.
COPY_MARK = "#"


@dataclass(frozen=True)
class Utterance:
    """A segment of audio and its transcript."""

    utterance_id: str  # unique in its corpus, e.g. 4088-158079-0015
    audio_path: str | None  # local or gs://; None: a transcript without audio
    transcript: str | None  # None: audio without transcript
    speaker: str  # e.g. 4088; the same in all utterances of a person; "": unknown
    # Size of the audio file, part of the corpus digest; None: the file is missing.
    audio_bytes: int | None = None
    copy: int = 0  # number of an augmented copy, from 1; 0: the original
    start_seconds: float = 0.0  # start of the segment in its file
    seconds: float | None = None  # length of the segment; None: to the end of the file
    # Values that the corpus states, to be compared with the audio file; None: not stated.
    stated_bytes: int | None = None  # size of the audio file
    stated_seconds: float | None = None  # length of the audio
    place: str = ""  # place in the corpus, e.g. data/train.csv:17, for messages; "": unknown

    @property
    def recorded_id(self) -> str:
        """The id of the original of an augmented copy, else the utterance's own id."""
        return self.utterance_id.removesuffix(f"{COPY_MARK}{self.copy}")

    @property
    def where(self) -> str:
        """The place in the corpus, else the path of the audio, else the id, for messages."""
        return self.place or self.audio_path or self.utterance_id


def transcript_of(text: str) -> str | None:
    """Returns the text as it is; None if it is blank."""
    return text if text.strip() else None


def with_copies(utterances: list[Utterance], copies: int) -> list[Utterance]:
    """Inserts augmented copies after each utterance that has audio and a transcript.

    Args:
        copies: number of copies of each utterance.

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
                    f"The utterance {utterance_id} has the id of a copy of {each.utterance_id}: "
                    "rename its file, or leave out --augment."
                )
            copied.append(replace(each, utterance_id=utterance_id, copy=copy))
    return copied
