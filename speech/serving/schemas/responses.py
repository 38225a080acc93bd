"""What the server answers, as /openapi.json describes it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Problem(BaseModel):
    """Of every answer that is no success."""

    error: str = Field(
        description="What is wrong, the value, and the remedy.",
        examples=["There is no model 'x' here: choose among model."],
    )


class Model(BaseModel):
    name: str = Field(examples=["model"])
    title: str
    language: str = Field(description="Empty: not said.")
    network: str = Field(examples=["deep_speech_1"])
    step: int = Field(description="It was trained for.")
    sample_rate: int = Field(description="Hz; other rates are resampled to it.")
    streams: bool = Field(description="Whether it streams with the very text of whole recordings.")
    labels: list[str] = Field(description='Its characters; the blank comes last, as "".')


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


class Word(BaseModel):
    word: str
    start_time: float = Field(description="Seconds from the recording's start.")
    duration: float = Field(description="Seconds.")


class Candidate(BaseModel):
    text: str
    confidence: float = Field(description="A log-probability: the larger the surer.")
    words: list[Word]


class Segment(BaseModel):
    """A stretch of the recording between pauses."""

    text: str
    start: float = Field(description="Seconds from the recording's start.")
    seconds: float
    confidence: float = Field(description="A log-probability: the larger the surer.")
    words: list[Word]
    candidates: list[Candidate] = Field(description="The best first.")


class Waveform(BaseModel):
    """Of the whole recording, in columns of equal length; full scale is 1."""

    lowest: list[float]
    highest: list[float]


class Picture(BaseModel):
    """Numbers as shades."""

    rows: int
    columns: int
    data: str = Field(description="Base64 of a byte a number, row by row.")


class ScaledPicture(Picture):
    lowest: float = Field(description="What 0 stands for.")
    highest: float = Field(description="What 255 stands for.")


class Details(BaseModel):
    """What the network heard of a segment."""

    start: float = Field(description="Seconds from the recording's start.")
    step_seconds: float = Field(description="Between two columns of spectrogram and features.")
    output_seconds: float = Field(description="Between two columns of the probabilities.")
    spectrogram: ScaledPicture = Field(description="Rows are frequencies, low first; in dB.")
    highest_frequency: float = Field(description="Hz, of the spectrogram's last row.")
    features: ScaledPicture = Field(description="Rows are the bins that the network takes.")
    probabilities: Picture = Field(description="Rows are labels, the blank last; 255 is 1.")
    path: list[int] = Field(description="Label of each output, as the text best lies on them.")


class Transcription(BaseModel):
    text: str = Field(examples=["turn on the light"])
    seconds: float = Field(description="Length of the recording.")
    inference_seconds: float
    model: str
    scorer: str = Field(description="Empty: none.")
    segments: list[Segment]
    waveform: Waveform | None = None
    details: list[Details] | None = Field(
        None, description="Of each segment, if asked for and the recording has up to a minute."
    )


class Set(BaseModel):
    name: str
    utterances: int
    seconds: float
    audio: bool = Field(description="Whether its recordings are there to be heard.")


class Sets(BaseModel):
    sets: list[Set]


class Row(BaseModel):
    id: str
    reference: str
    hypothesis: str
    wer: float
    cer: float
    seconds: float
    audio: str | None = Field(description="Where its recording is.")
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
    so_far: Rates = Field(description="Of all that was recognised with this model and scorer.")


class Instance(BaseModel):
    """A recording in JSON; beside it, the options of /api/transcribe."""

    model_config = ConfigDict(extra="allow")
    audio: str = Field(description="Base64 of a sound file's bytes.")


class Predictions(BaseModel):
    predictions: list[Transcription]
