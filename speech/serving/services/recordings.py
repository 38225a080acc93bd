"""The corpus that visitors of the page record: speakers, prompts, and takes as they arrive."""

import contextlib
import sqlite3
from collections.abc import Iterator

import numpy as np
import soundfile

from speech.audio import flac
from speech.audio.reader import AudioError, TooMuchAudioError, open_sound
from speech.audio.stream import stream_file
from speech.audio.types import RecordedSamples
from speech.corpora.prompts import read_prompts
from speech.preflight.take import check_take
from speech.recordings.store import (
    Correction,
    DatabaseGoneError,
    Prompt,
    RecordingStore,
    Speaker,
    Take,
)
from speech.serving.errors import RequestError
from speech.serving.schemas.requests import SpeakerRequest, TakeForm, format_value
from speech.serving.services.transcription import DECODED_RATE
from speech.serving.settings import RecordingSettings
from utils import UserError

# Takes are stored at their own rate, at most at this one; those that only ffmpeg reads, at this.
HIGHEST_RATE = 48_000
# Of a take or a corrected recording: a training reads far shorter ones.
LONGEST_SECONDS = 300.0

DATABASE_FAILED = (
    "The recordings can't be written: the server's disk is full, or its database is locked. Try "
    "again later."
)


class Recordings:
    """What the routes do with the store. Methods may be called by any thread."""

    def __init__(self, store: RecordingStore, settings: RecordingSettings) -> None:
        self.store = store
        self.consent = settings.consent
        self._prompts = settings.prompts

    def read_prompts(self) -> list[Prompt]:
        """Reads the sentences of the prompts' file; raises UserError if it can't be used."""
        return read_prompts(self._prompts) if self._prompts else []

    def enter(self, token: str | None, request: SpeakerRequest) -> str:
        """Adds a speaker, or renews the consent of a known one; returns the speaker's token.

        Raises:
            RequestError: the speaker agreed to another text than the server's (409).
        """
        if request.consent != self.consent:
            raise RequestError(409, "The text of the consent was changed: load the page again.")
        if token and self.store.find_speaker(token):
            self.store.renew_consent(token, request.name, request.consent)
            return token
        return self.store.add_speaker(request.name, request.consent)

    def speaker(self, token: str | None, agreed: bool = False) -> Speaker:
        """Returns the speaker of a request.

        Args:
            agreed: whether the speaker must have agreed to the current text.

        Raises:
            RequestError: the speaker is unknown (410), or hasn't agreed (409).
        """
        speaker = self.store.find_speaker(token or "")
        if speaker is None:
            raise RequestError(
                410,
                "The speaker is unknown: send Speaker-Token, from POST /api/recordings/speaker.",
            )
        if agreed and speaker.consent != self.consent:
            raise RequestError(409, "The text of the consent was changed: agree to it first.")
        return speaker

    def take(self, speaker: Speaker, take_id: str) -> Take:
        """Returns a take of a speaker; raises RequestError (404) if there is none."""
        take = self.store.find_take(speaker, take_id)
        if take is None:
            raise RequestError(404, f"There is no take {format_value(take_id)} of this speaker.")
        return take

    def said(self, form: TakeForm) -> Prompt | Correction:
        """Returns what a take says; raises RequestError (404) if there never was such a prompt."""
        if form.prompt_id is None:
            return Correction(form.text, form.heard or "", form.model, form.scorer)
        if not self.store.has_prompt(form.prompt_id):
            raise RequestError(
                404, f"There is no prompt {format_value(form.prompt_id)} here: load the page again."
            )
        return Prompt(form.prompt_id, form.text)

    def add(
        self, speaker: Speaker, take_id: str, path: str, form: TakeForm, most_seconds: float
    ) -> Take:
        """Stores the take in a sound file; once this returns it is on the disk.

        Raises:
            RequestError: there is no such prompt (404), the file is no sound (415) or too long
                (413), the speaker was removed meanwhile (409), or the disk is full (507).
            DatabaseGoneError: the database was deleted.
        """
        said = self.said(form)
        samples, rate = _read(path, min(most_seconds, LONGEST_SECONDS))
        check = check_take(samples, rate, said.text)
        sound = flac.encode(samples, rate)
        try:
            return self.store.add_take(speaker, take_id, sound, len(samples) / rate, check, said)
        except sqlite3.IntegrityError:
            raise RequestError(
                409, "The speaker was removed, or the take's id is another's: load the page again."
            ) from None
        except DatabaseGoneError:
            raise
        except UserError:
            raise RequestError(507, DATABASE_FAILED) from None


@contextlib.contextmanager
def opened(settings: RecordingSettings | None) -> Iterator[Recordings | None]:
    """Opens the folder of recordings while the block runs; None if there are no settings.

    Raises:
        UserError: see RecordingStore.
    """
    if settings is None:
        yield None
        return
    with contextlib.closing(RecordingStore(settings.folder)) as store:
        yield Recordings(store, settings)


def _read(path: str, most_seconds: float) -> tuple[RecordedSamples, int]:
    """Returns samples, [samples] at int16 scale, and their rate in Hz."""
    blocks = []
    try:
        rate = _rate_of(path)
        left = most_seconds * rate
        for block in stream_file(path, rate, int(DECODED_RATE * most_seconds)):
            left -= len(block)
            if left < 0:
                raise _too_long(most_seconds)
            blocks.append(block)
    except TooMuchAudioError:
        raise _too_long(most_seconds) from None
    except AudioError:
        raise RequestError(
            415, "The take is no sound file that can be read: send wav, flac, ogg or mp3."
        ) from None
    return np.concatenate([np.zeros(0, np.float32), *blocks]), rate


def _too_long(most_seconds: float) -> RequestError:
    return RequestError(
        413, f"The take is longer than {most_seconds:g} seconds: record a shorter one."
    )


def _rate_of(path: str) -> int:
    try:
        with open_sound(path) as sound:
            return min(int(sound.samplerate), HIGHEST_RATE)
    except soundfile.SoundFileError:
        return HIGHEST_RATE
