"""The eSpeak NG synthesizer, for generated corpora.

The library and its voices come with the wheel espeakng-loader: pip install -e ".[demo]".
"""

import ctypes

import numpy as np
import soxr

import constants
from utils import UserError

# Percent of eSpeak's default volume. At 100 its loudest voices reach the limiter of the library.
VOLUME = 60


class _Voice(ctypes.Structure):
    """The first fields of speak_lib.h's espeak_VOICE, to which the library returns pointers."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
    ]


_SynthCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Synthesizer:
    """The eSpeak NG library.

    Of its speak_lib.h this uses espeak_Initialize, espeak_SetSynthCallback, espeak_SetVoiceByName,
    espeak_GetCurrentVoice, espeak_SetParameter and espeak_Synth; of its espeak_ng.h,
    espeak_ng_SetRandSeed.

    The library keeps its pitch flutter and its gain from one utterance to the next, and has no call
    that resets them. The same calls in the same order in a new process give the same samples; hence
    one process speaks a corpus from its first utterance on.
    """

    SAMPLE_RATE = 22050  # Hz, of every voice used here

    # Constants of speak_lib.h.
    _AUDIO_OUTPUT_SYNCHRONOUS = 2
    _DONT_EXIT = 0x8000
    _RATE, _VOLUME, _PITCH = 1, 2, 3
    _POS_CHARACTER = 1
    _CHARS_UTF8 = 1
    _EE_OK = 0

    _NOISE_SEED = 1

    def __init__(self) -> None:
        """Loads the library and its data.

        Raises:
            UserError: the package espeakng-loader is missing, or its data can't be read.
        """
        try:
            import espeakng_loader
        except ImportError:
            raise UserError(
                'The package espeakng-loader is missing: install it with pip install -e ".[demo]".'
            ) from None
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._library.espeak_GetCurrentVoice.restype = ctypes.POINTER(_Voice)
        self._initialize(espeakng_loader.get_data_path())
        # The library seeds the noise of its breathy voices with the time of day.
        self._check(
            self._library.espeak_ng_SetRandSeed(ctypes.c_long(self._NOISE_SEED)), "a random seed"
        )
        self._chunks: list[bytes] = []
        # The library keeps only a pointer: without this reference Python would free the callback.
        self._callback = _SynthCallback(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)
        self._check(
            self._library.espeak_SetParameter(self._VOLUME, VOLUME, 0), f"the volume {VOLUME}"
        )

    def speak(self, sentence: str, voice: str, rate: int, pitch: int) -> np.ndarray:
        """Speaks `sentence`.

        Args:
            sentence: in the voice's language.
            voice: a language of eSpeak NG's folder lang, perhaps a variant of voices/!v: en-us+f1.
            rate: words per minute.
            pitch: eSpeak's scale, 0 to 99.

        Returns:
            [samples] int16, at SAMPLE_RATE.

        Raises:
            UserError: the library doesn't have the voice or its variant, or refuses the text.
        """
        self._set_voice(voice)
        self._check(self._library.espeak_SetParameter(self._RATE, rate, 0), f"the rate {rate}")
        self._check(self._library.espeak_SetParameter(self._PITCH, pitch, 0), f"the pitch {pitch}")
        self._chunks.clear()
        text = sentence.encode("utf-8")
        status = self._library.espeak_Synth(
            text, len(text) + 1, 0, self._POS_CHARACTER, 0, self._CHARS_UTF8, None, None
        )
        self._check(status, f"the text {sentence!r}")
        return np.frombuffer(b"".join(self._chunks), np.int16)

    def _initialize(self, data_path: str) -> None:
        sample_rate = self._library.espeak_Initialize(
            self._AUDIO_OUTPUT_SYNCHRONOUS, 0, data_path.encode(), self._DONT_EXIT
        )
        # It doesn't fail if its data can't be read, but returns the sample rate 0.
        if sample_rate != self.SAMPLE_RATE:
            raise UserError(
                f"eSpeak NG can't read its data in {data_path} (sample rate {sample_rate}). "
                'Install it again with pip install -e ".[demo]", into an environment with a '
                "shorter path if that one has 160 characters or more."
            )

    def _set_voice(self, voice: str) -> None:
        self._check(self._library.espeak_SetVoiceByName(voice.encode()), f"the voice {voice}")
        # With an unknown variant the library speaks without one. The identifier names the loaded
        # voice, such as gmw/en-US+m1.
        identifier = self._library.espeak_GetCurrentVoice().contents.identifier.decode()
        if identifier.rpartition("/")[2].lower() != voice:
            raise UserError(
                f"eSpeak NG has no voice {voice}, it would speak as {identifier}: install the "
                'version this project names, with pip install -e ".[demo]".'
            )

    def _collect(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: int) -> int:
        """Receives the next samples from the library; none at the end."""
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, count * ctypes.sizeof(ctypes.c_short)))
        return 0  # continue

    def _check(self, status: int, what: str) -> None:
        # After an unknown voice the library would continue with the previous one.
        if status != self._EE_OK:
            raise UserError(
                f"eSpeak NG refuses {what} (espeak_ERROR {status}): install the version this "
                'project names, with pip install -e ".[demo]".'
            )


def to_corpus_rate(samples: np.ndarray) -> np.ndarray:
    """Resamples eSpeak's [samples] int16 to [samples] int16 at the corpus's rate."""
    # In floating point, because soxr dithers 16-bit output with noise that differs at every call.
    resampled = soxr.resample(
        samples.astype(np.float32), Synthesizer.SAMPLE_RATE, constants.SAMPLE_RATE
    )
    return np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)
