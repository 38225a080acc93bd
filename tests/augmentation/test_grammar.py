"""The grammar of augmentations, and which of them suit a front end."""

import pytest
from doors import ROOT

from speech.augmentation.grammar import (
    FEATURE_KINDS,
    SIGNAL_KINDS,
    Number,
    Range,
    Text,
    constant,
    parse_feature,
    parse_features,
    parse_signal,
)
from utils import UserError

# The example of all augmentations in DeepSpeech's documentation.
DEEPSPEECH_SIGNAL = (
    "overlay[p=0.5,source=noise.csv,layers=1,snr=50:20~10]",
    "reverb[p=0.1,delay=50.0~30.0,decay=10.0:2.0~1.0]",
    "resample[p=0.1,rate=12000:8000~4000]",
    "codec[p=0.1,bitrate=48000:16000]",
    "volume[p=0.1,dbfs=-10:-40]",
)
DEEPSPEECH_FEATURES = (
    "pitch[p=0.1,pitch=1~0.2]",
    "tempo[p=0.1,factor=1~0.5]",
    "warp[p=0.1,nt=4,nf=1,wt=0.5:1.0,wf=0.1:0.2]",
    "frequency_mask[p=0.1,n=1:3,size=1:5]",
    "time_mask[p=0.1,n=3:10~2,size=50:100~40]",
    "dropout[p=0.1,rate=0.05]",
    "add[p=0.1,stddev=0~0.5]",
    "multiply[p=0.1,domain=features,stddev=0~0.5]",
)


@pytest.mark.parametrize(
    ("text", "probability", "ranges"),
    [
        ("time_mask", 1.0, {"n": constant(3), "size": constant(10)}),
        ("time_mask[]", 1.0, {"n": constant(3), "size": constant(10)}),
        ("frequency_mask[p=0.5]", 0.5, {"n": constant(3), "size": constant(2)}),
        ("frequency_mask[p=1,n=2,size=10]", 1.0, {"n": constant(2), "size": constant(10)}),
        (
            " time_mask[ size = 50~20 , n=3~1 , p = .25 ] ",
            0.25,
            {"n": constant(3, 1), "size": constant(50, 20)},
        ),
        ("time_mask[size=7.5~2.5]", 1.0, {"n": constant(3), "size": constant(7.5, 2.5)}),
        (
            "time_mask[n=3:10~2,size=50:100]",
            1.0,
            {"n": Range(3, 10, 2), "size": Range(50, 100)},
        ),
    ],
)
def test_specification_is_read(text: str, probability: float, ranges: dict[str, Range]) -> None:
    read = parse_feature(text)
    assert (read.kind, read.probability, read.ranges) == (
        text.strip().partition("[")[0],
        probability,
        ranges,
    )


def test_negative_values_are_read() -> None:
    assert parse_signal("volume[dbfs=-10:-40~2.5]").ranges == {"dbfs": Range(-10, -40, 2.5)}
    assert parse_signal("overlay[source=noise,snr=-5]").ranges["snr"] == constant(-5)


def test_deepspeechs_recipes_are_read() -> None:
    for text in DEEPSPEECH_SIGNAL:
        assert parse_signal(text).text == text
    read = parse_features(DEEPSPEECH_FEATURES, "fbank")
    assert {each.kind for each in read} == set(FEATURE_KINDS)
    assert {parse_signal(text).kind for text in DEEPSPEECH_SIGNAL} | {"speed"} == set(SIGNAL_KINDS)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "frequency_mask, time_mask"),
        ("noise[p=1]", "--augment=noise[p=1] is not known"),
        ("time_mask[p=1", "--augment=time_mask[p=1"),
        ("time_mask p=1", "--augment=time_mask p=1"),
        ("time_mask[q=1]", "'q=1' is none of p=, n=, size=, domain="),
        ("time_mask[n=2,size]", "'size'"),
        ("time_mask[n=2,n=3]", "n= is given twice"),
        ("time_mask[size=-3]", "'size=-3' must be at least 0"),
        ("time_mask[size=3~]", "'size=3~'"),
        ("time_mask[size=1:]", "'size=1:'"),
        ("time_mask[size=3~-1]", "'size=3~-1'"),
        ("time_mask[n=1.5]", "'n=1.5' must be whole"),
        ("dropout[rate=1.5]", "'rate=1.5' must be at most 1"),
        ("tempo[factor=0]", "'factor=0' must be more than 0"),
        ("tempo[factor=1:0.5~0.5]", "must be more than 0"),
        ("frequency_mask[p=often]", "'p=often'"),
        ("time_mask[p=0.5~0.2]", "p is one probability"),
        ("time_mask[p=0:0.2]", "p is one probability"),
        ("time_mask[p=1.5]", "p is one probability, at most 1"),
        ("time_mask[domain=text]", "domain=text is none of spectrogram, features, signal"),
        ("specaugment[p=0.5]", "specaugment takes no parameters"),
        ("reverb[p=1]", "give it to prepare_libri.py"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, named: str) -> None:
    with pytest.raises(UserError) as error:
        parse_feature(text)
    assert named in str(error.value)
    assert "--augment=" in str(error.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("time_mask", "give it to training.py"),
        ("specaugment", "give it to training.py"),
        ("echo", "is not known: write one of overlay, reverb"),
        ("overlay[snr=3]", "source= is missing"),
        ("codec[codec=mp5]", "codec=mp5 is none of opus, mp3, gsm, ulaw, alaw"),
        ("codec[bitrate=3200]", "'bitrate=3200' must be at least 6000"),
        ("codec[codec=gsm,bitrate=8000]", "gsm has one bitrate"),
        ("volume[dbfs=6]", "must be at most 3.0103"),
        ("speed[factor=-1]", "must be at least 0"),
        ("resample[rate=8000~8000]", "must be more than 0"),
    ],
)
def test_what_cannot_be_read_of_a_signals_augmentation_is_named(text: str, named: str) -> None:
    with pytest.raises(UserError) as error:
        parse_signal(text)
    assert named in str(error.value)


def test_preset_is_written_out() -> None:
    kinds = [each.kind for each in parse_features(["specaugment", "add"], "fbank")]
    assert kinds == ["warp", "frequency_mask", "time_mask", "add"]


@pytest.mark.parametrize(
    ("front_end", "text", "named"),
    [
        ("mfcc", "pitch", "can't be applied to mfcc features"),
        ("mfcc", "frequency_mask", "can't be applied to mfcc features"),
        ("mfcc", "specaugment", "frequency_mask"),
        ("deepspeech", "pitch", "can't be applied to deepspeech features"),
        ("deepspeech", "warp[wf=0.1]", "wf must be 0"),
        ("mfcc", "warp[wf=0.1]", "wf must be 0"),
        ("mfcc", "time_mask[domain=spectrogram]", "whose domain is features, not spectrogram"),
        ("waveform", "frequency_mask", "can't be applied to waveform features"),
        ("waveform", "pitch", "can't be applied to waveform features"),
        ("waveform", "tempo", "can't be applied to waveform features"),
        ("waveform", "warp", "can't be applied to waveform features"),
        ("fbank", "time_mask[domain=signal]", "Omit domain="),
    ],
)
def test_augmentation_that_does_not_suit_a_front_end_is_refused(
    front_end: str, text: str, named: str
) -> None:
    with pytest.raises(UserError) as error:
        parse_features([text], front_end)
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("front_end", "texts"),
    [
        ("fbank", ["time_mask[domain=spectrogram]", "add[domain=features]", *FEATURE_KINDS]),
        ("spectrogram", ["time_mask[domain=spectrogram]", *FEATURE_KINDS]),
        ("mfcc", ["time_mask", "tempo", "warp", "dropout", "add[domain=features]", "multiply"]),
        ("deepspeech", ["time_mask", "tempo", "warp", "dropout", "add", "multiply"]),
        ("waveform", ["time_mask[domain=signal]", "dropout", "add[domain=signal]", "multiply"]),
    ],
)
def test_augmentation_that_suits_a_front_end_is_accepted(front_end: str, texts: list[str]) -> None:
    assert [each.text for each in parse_features(texts, front_end)] == texts


def documented_default(parameter: Number | Text) -> str:
    """How docs/augmentation.md gives a parameter's default."""
    if isinstance(parameter, Text):
        return f" ({parameter.default})" if parameter.default else ""
    default = parameter.default
    end = f":{default.end:g}" if default.end != default.start else ""
    radius = f"~{default.radius:g}" if default.radius else ""
    return f" ({default.start:g}{end}{radius})"


@pytest.mark.parametrize("kind", [*FEATURE_KINDS, *SIGNAL_KINDS])
def test_the_documentation_lists_every_parameter_and_its_default(kind: str) -> None:
    documentation = (ROOT / "docs/augmentation.md").read_text(encoding="utf-8")
    row = next(line for line in documentation.splitlines() if line.startswith(f"| `{kind}` |"))
    for name, parameter in {**FEATURE_KINDS, **SIGNAL_KINDS}[kind].items():
        if name != "domain":
            assert f"`{name}`{documented_default(parameter)}" in row
