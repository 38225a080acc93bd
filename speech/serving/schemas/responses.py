"""The bodies of responses, as /openapi.json describes them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Problem(BaseModel):
    """The body of every response that isn't a success."""

    error: str = Field(
        description="What is wrong, the value, and the remedy.",
        examples=["There is no model 'x' here: choose among model."],
    )


# The refusals of routes, for /openapi.json.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "A bad request or option."},
    404: {"model": Problem, "description": "There is no such model, scorer or set."},
    503: {"model": Problem, "description": "Too many requests. Retry-After says when to retry."},
}
AUDIO_PROBLEMS: dict[int | str, dict[str, Any]] = {
    **PROBLEMS,
    408: {"model": Problem, "description": "The upload is too slow."},
    413: {"model": Problem, "description": "Too many bytes or seconds."},
    415: {"model": Problem, "description": "Not audio, or damaged."},
    507: {"model": Problem, "description": "The disk for uploads is full."},
}

# The schema of a body that is a sound file.
BINARY = {"schema": {"type": "string", "format": "binary"}}


class Model(BaseModel):
    name: str = Field(examples=["model"])
    title: str
    language: str = Field(description="Empty: unknown.")
    network: str = Field(examples=["deep_speech_1"])
    step: int = Field(description="Training steps.")
    sample_rate: int = Field(description="Hz; other rates are resampled to it.")
    streams: bool = Field(
        description="Whether a stream gives the same text as the whole recording."
    )
    labels: list[str] = Field(description='Its classes: characters, and the blank last, as "".')


class NamedScorer(BaseModel):
    name: str = Field(examples=["kenlm.scorer"])
    models: list[str] = Field(description="Names of the models that it fits.")


class Limits(BaseModel):
    upload_bytes: int
    seconds: float


class Defaults(BaseModel):
    model: str
    scorer: str = Field(description="Empty: none.")
    beam_width: int


class Models(BaseModel):
    models: list[Model]
    scorers: list[NamedScorer]
    limits: Limits
    defaults: Defaults
    recordings: bool = Field(description="Whether takes and corrections can be stored here.")


class Word(BaseModel):
    word: str
    start_time: float = Field(description="Seconds from the recording's start.")
    duration: float = Field(description="Seconds.")


class Candidate(BaseModel):
    text: str
    confidence: float = Field(description="A log-probability: the larger the surer.")
    words: list[Word]


class Segment(BaseModel):
    """A part of the recording between pauses."""

    text: str
    start: float = Field(description="Seconds from the recording's start.")
    seconds: float
    confidence: float = Field(description="A log-probability: the larger the surer.")
    words: list[Word]
    candidates: list[Candidate] = Field(description="The best first.")


class Waveform(BaseModel):
    """The waveform of the whole recording, in columns of equal length; full scale is 1."""

    lowest: list[float]
    highest: list[float]


class Picture(BaseModel):
    """A matrix of numbers, each quantised to a byte."""

    rows: int
    columns: int
    data: str = Field(description="Base64 of one byte per number, row by row.")


class ScaledPicture(Picture):
    lowest: float = Field(description="The number that 0 stands for.")
    highest: float = Field(description="The number that 255 stands for.")


class Details(BaseModel):
    """The network's inputs and outputs of a segment."""

    start: float = Field(description="Seconds from the recording's start.")
    step_seconds: float = Field(description="Between two columns of spectrogram and features.")
    output_seconds: float = Field(description="Between two columns of the probabilities.")
    spectrogram: ScaledPicture = Field(description="Rows are frequencies, low first; in dB.")
    highest_frequency: float = Field(description="Hz, of the spectrogram's last row.")
    features: ScaledPicture = Field(description="Rows are the bins that the network takes.")
    probabilities: Picture = Field(description="Rows are classes, the blank last; 255 is 1.")
    path: list[int] = Field(description="Class of each output on the text's best alignment.")


class Transcription(BaseModel):
    text: str = Field(examples=["turn on the light"])
    seconds: float = Field(description="Length of the recording.")
    inference_seconds: float
    model: str
    scorer: str = Field(description="Empty: none.")
    segments: list[Segment]
    waveform: Waveform | None = None
    details: list[Details] | None = Field(
        None, description="Of each segment, if requested and the recording has up to a minute."
    )


class Set(BaseModel):
    name: str
    utterances: int
    seconds: float
    audio: bool = Field(description="Whether its recordings can be played.")


class Sets(BaseModel):
    sets: list[Set]


class Row(BaseModel):
    id: str
    reference: str
    hypothesis: str
    wer: float
    cer: float
    seconds: float
    audio: str | None = Field(description="Path of its recording on this server.")
    words: list[tuple[Literal["=", "s", "i", "d"], str, str]] = Field(
        description="Equal, substituted, inserted or deleted; word of reference and hypothesis."
    )


class Rates(BaseModel):
    utterances: int
    words: int
    wer: float
    cer: float


class Page(BaseModel):
    name: str
    utterances: int = Field(description="Of the whole set.")
    offset: int
    rows: list[Row]
    rates: Rates = Field(description="Of these rows.")
    so_far: Rates = Field(
        description="Of all utterances recognised so far with this model and scorer."
    )


class Instance(BaseModel):
    """A recording in JSON, with the options of /api/transcribe."""

    model_config = ConfigDict(extra="allow")
    audio: str = Field(description="Base64 of a sound file's bytes.")


class Predictions(BaseModel):
    predictions: list[Transcription]


class Take(BaseModel):
    """A recording of a sentence."""

    take_id: str
    seconds: float
    problem: str = Field(description="What is wrong and what to do; empty: nothing.")
    usable: bool = Field(description="Whether it is part of the corpus.")


class OfferedPrompt(BaseModel):
    prompt_id: str
    text: str
    others: int = Field(description="Usable takes of other speakers.")
    take: Take | None = Field(description="The speaker's own.")


class Recordings(BaseModel):
    """What a speaker may record, and has recorded."""

    consent: str = Field(description="The text that speakers have to agree to.")
    name: str | None = Field(description="The speaker's; null: unknown.")
    agreed: bool = Field(description="Whether the speaker agreed to this very text.")
    corrections: int = Field(description="The speaker's corrected transcripts.")
    prompts: list[OfferedPrompt] = Field(description="Those with the fewest takes first.")


class SpeakerToken(BaseModel):
    token: str = Field(description="For the header Speaker-Token of further requests.")
