"""Settings of the server, as serve.py's flags give them. Imported without the extra `serve`."""

from dataclasses import dataclass

from speech.decoding.beam_search import BeamSettings


@dataclass(frozen=True)
class RequestLimits:
    """Upper bounds of requests."""

    upload_bytes: int
    seconds: float  # of a recording or stream
    requests: int  # under way or waiting at once


@dataclass(frozen=True)
class RecordingSettings:
    """A corpus that visitors of the page record."""

    folder: str
    prompts: str  # path of the sentences; empty: only corrected transcripts are stored
    consent: str  # text that a speaker has to agree to


@dataclass(frozen=True)
class ServerSettings:
    """What to serve, where, and within which limits."""

    models: tuple[str, ...]  # paths; the first one is the default
    scorers: tuple[str, ...]  # paths
    test_data: tuple[str, ...]  # globs of shards
    audio: tuple[str, ...]  # folders with the recordings of the test sets
    host: str  # address to listen at
    port: int  # 0: any free port
    wyoming_port: int | None  # likewise; None: Wyoming isn't served
    wyoming_language: str  # of models that name none; empty: unknown
    host_names: frozenset[str]  # names of the server in lower case, see http.Front
    limits: RequestLimits
    batch_size: int  # most utterances that a model computes at once
    search: BeamSettings  # defaults of the beam search
    api_key_file: str | None = None  # path; None: requests need no key
    recordings: RecordingSettings | None = None  # None: nothing is stored
