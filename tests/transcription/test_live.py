"""Live transcripts: segments, partial transcripts, and the text of the whole."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tiny_models import noise, write_model
from tone_model import silence, tones, write_tone_model

from speech.audio.segmentation import LONGEST_SECONDS
from speech.decoding.beam_search import BeamSettings
from speech.export import loading
from speech.transcription import live
from speech.transcription.live import LiveTranscriber, PartialTranscript
from speech.transcription.subtitles import join_words
from speech.transcription.transcriber import TranscribedSegment, Transcriber

Samples = npt.NDArray[np.int16]


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    folder = tmp_path_factory.mktemp("live") / "model"
    write_tone_model(folder)
    return Transcriber(loading.load(str(folder)), BeamSettings(beam_width=16))


def events_of(
    live_transcriber: LiveTranscriber, samples: Samples, block: int
) -> list[PartialTranscript | TranscribedSegment]:
    events: list[PartialTranscript | TranscribedSegment] = []
    for at in range(0, len(samples), block):
        events += live_transcriber.feed(samples[at : at + block])
    return [*events, *live_transcriber.finish()]


def segments_of(events: list[PartialTranscript | TranscribedSegment]) -> list[TranscribedSegment]:
    return [each for each in events if isinstance(each, TranscribedSegment)]


def text_of(segment: TranscribedSegment) -> str:
    return join_words(segment.transcript.words)


def test_text_and_times_without_a_long_pause_are_those_of_the_whole(
    transcriber: Transcriber,
) -> None:
    samples = np.concatenate([silence(2), tones("a cat"), silence(1), tones(" bat"), silence(1)])
    live_transcriber = LiveTranscriber(transcriber, n=3)
    assert live_transcriber.exact
    assert live_transcriber.latency_seconds < 0.3
    (segment,) = segments_of(events_of(live_transcriber, samples, 320))
    wanted = transcriber.transcribe(samples, n=3)
    assert text_of(segment) == "a cat bat"
    assert (segment.start, segment.seconds) == (wanted.start, wanted.seconds)
    assert segment.transcript.words == wanted.transcript.words
    for found, known in zip(segment.candidates, wanted.candidates, strict=True):
        assert found.confidence == pytest.approx(known.confidence, abs=1e-3)


def test_partial_transcripts_grow_and_come_once(transcriber: Transcriber) -> None:
    events = events_of(LiveTranscriber(transcriber), tones("cab at"), 320)
    partials = [each for each in events if isinstance(each, PartialTranscript)]
    assert [each.text for each in partials] == ["c", "ca", "cab", "cab a", "cab at"]
    # A letter takes 0.15 s; each is recognised within 0.3 s of its start.
    starts = [0.15 * at for at in (0, 1, 2, 4, 5)]
    for partial, start in zip(partials, starts, strict=True):
        assert partial.start == 0
        assert start < partial.seconds <= start + 0.3
    assert text_of(segments_of(events)[0]) == "cab at"
    assert events[-1] == segments_of(events)[0]


def test_long_pause_ends_a_segment_and_the_next_has_its_own_times(
    transcriber: Transcriber,
) -> None:
    samples = np.concatenate([tones("ab"), silence(4), tones("ca"), silence(0.5)])
    events = events_of(LiveTranscriber(transcriber), samples, 1600)
    first, second = segments_of(events)
    assert (text_of(first), text_of(second)) == ("ab", "ca")
    assert first.seconds == pytest.approx(0.25 + live.SEGMENT_PAUSE_SECONDS, abs=0.05)
    assert second.start == pytest.approx(first.seconds)
    (word,) = second.transcript.words
    assert word.start == pytest.approx(4.3, abs=0.05)
    assert second.start + second.seconds == pytest.approx(len(samples) / 16000)
    later = [each for each in events[events.index(first) :] if isinstance(each, PartialTranscript)]
    assert [each.text for each in later] == ["c", "ca"]
    assert all(each.start == second.start for each in later)


def test_segments_do_not_depend_on_the_blocks(transcriber: Transcriber) -> None:
    samples = np.concatenate(
        [tones("a b"), silence(1.7), tones("cat"), silence(2.5), tones("tab a")]
    )
    wanted = segments_of(events_of(LiveTranscriber(transcriber), samples, 320))
    assert [text_of(each) for each in wanted] == ["a b", "cat", "tab a"]
    for block in (160, 7777, len(samples)):
        found = segments_of(events_of(LiveTranscriber(transcriber), samples, block))
        for one, other in zip(found, wanted, strict=True):
            assert (one.start, one.seconds) == (other.start, other.seconds)
            assert one.transcript.words == other.transcript.words


def test_long_segment_ends_at_a_short_pause(transcriber: Transcriber) -> None:
    sentence = np.concatenate([tones("abc cab"), silence(0.5), tones(" ")])  # 1.7 s
    live_transcriber = LiveTranscriber(transcriber)
    segments = segments_of(events_of(live_transcriber, np.concatenate([sentence] * 24), 1600))
    assert " ".join(map(text_of, segments)).split() == ["abc", "cab"] * 24
    assert len(segments) == 3
    for each in segments[:2]:
        assert LONGEST_SECONDS <= each.seconds < LONGEST_SECONDS + 2


def test_segment_without_any_pause_ends_at_the_limit(transcriber: Transcriber) -> None:
    live_transcriber = LiveTranscriber(transcriber)
    samples = tones("ab c" * 70)  # 42 s
    segments = segments_of(events_of(live_transcriber, samples, 16000))
    assert [round(each.seconds, 1) for each in segments] == [live.LIMIT_SECONDS, 7.4]
    assert "".join(map(text_of, segments)).replace(" ", "") == "abc" * 70


def test_silence_has_no_text_and_uses_no_memory(transcriber: Transcriber) -> None:
    live_transcriber = LiveTranscriber(transcriber)
    for _ in range(60):
        assert live_transcriber.feed(silence(1)) == []
        assert sum(map(len, live_transcriber._segment.log_probs)) <= LONGEST_SECONDS * 100
    (partial,) = (live_transcriber.feed(tones("a ")) + live_transcriber.feed(silence(0.2)))[-1:]
    assert isinstance(partial, PartialTranscript) and partial.text == "a"
    (segment,) = live_transcriber.finish()
    assert segment.transcript.words[0].start == pytest.approx(60, abs=0.05)
    assert LiveTranscriber(transcriber).finish() == []


def test_several_live_transcribers_share_a_transcriber(transcriber: Transcriber) -> None:
    lives = [LiveTranscriber(transcriber) for _ in range(2)]
    sounds = [tones("cat a bat"), tones("tab cab a")]
    for at in range(0, len(sounds[0]), 800):
        for live_transcriber, samples in zip(lives, sounds, strict=True):
            live_transcriber.feed(samples[at : at + 800])
    assert [text_of(live_transcriber.finish()[0]) for live_transcriber in lives] == [
        "cat a bat",
        "tab cab a",
    ]


def test_network_without_a_state_is_streamed_too(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    transcriber = Transcriber(loading.load(str(tmp_path / "model")), BeamSettings(beam_width=4))
    live_transcriber = LiveTranscriber(transcriber)
    assert not live_transcriber.exact
    events = events_of(live_transcriber, noise(16000 * 3), 3200)
    assert events
    assert segments_of(events)[-1].start + segments_of(events)[-1].seconds == pytest.approx(3)
