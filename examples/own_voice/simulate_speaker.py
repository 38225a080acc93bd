"""Lets a synthesised voice record all sentences in the page of serve.py, as a person would.

    python examples/own_voice/simulate_speaker.py --url=http://localhost:8080 --voice=en+f3

A browser opens the page, agrees, and presses Record, Stop and Next; its microphone plays the voice.
It needs the package playwright and chromium, and takes as long as a person who doesn't hesitate.
"""

import base64
import io
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from absl import flags, logging

from speech.system import command_line
from utils import UserError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from synthesizer import Synthesizer, to_corpus_rate  # beside this folder

import constants  # below the change of sys.path

FLAGS = flags.FLAGS

PAUSE_SECONDS = 0.5  # before and after a sentence
NOISE_LEVEL = 3.0  # of the room, at int16 scale

# The page's microphone plays what window.take holds, from the moment when it is opened.
MICROPHONE = """
navigator.mediaDevices.getUserMedia = async () => {
  const context = new AudioContext();
  const bytes = Uint8Array.from(atob(window.take), (letter) => letter.charCodeAt(0));
  const source = context.createBufferSource();
  source.buffer = await context.decodeAudioData(bytes.buffer);
  const microphone = context.createMediaStreamDestination();
  source.connect(microphone);
  source.start();
  return microphone.stream;
};
"""


def define_flags() -> None:
    flags.DEFINE_string("url", "http://localhost:8080", "Address of serve.py --recordings.")
    flags.DEFINE_string("voice", "en+f3", "Voice of eSpeak NG.")
    flags.DEFINE_integer("rate", 150, "Words per minute.")
    flags.DEFINE_integer("pitch", 50, "Pitch, from 0 to 99.")
    command_line.define_logging_flag()


def wav_of(samples: np.ndarray) -> bytes:
    """Returns a wav file of a sentence between pauses; samples: int16 [samples]."""
    pause = np.zeros(round(PAUSE_SECONDS * constants.SAMPLE_RATE))
    whole = np.concatenate([pause, samples, pause])
    whole += np.random.default_rng(0).normal(0, NOISE_LEVEL, len(whole))
    file = io.BytesIO()
    soundfile.write(file, whole.astype(np.int16), constants.SAMPLE_RATE, format="WAV")
    return file.getvalue()


def record_all(page: Any, synthesizer: Synthesizer) -> None:
    """Records every sentence that the page shows, until all are done."""
    page.goto(f"{FLAGS.url}/#corpus")
    page.fill("#speaker-name", FLAGS.voice)
    page.check("#consent-agree")
    page.click("#consent-form button")
    page.wait_for_selector("#reading:not([hidden])")
    tried = 0
    while int(page.evaluate("progress.value")) < int(page.evaluate("progress.max")):
        sentence = page.inner_text("#prompt")
        spoken = to_corpus_rate(synthesizer.speak(sentence, FLAGS.voice, FLAGS.rate, FLAGS.pitch))
        page.evaluate("take => { window.take = take }", base64.b64encode(wav_of(spoken)).decode())
        page.click("#take")
        seconds = len(spoken) / constants.SAMPLE_RATE + PAUSE_SECONDS
        page.wait_for_timeout(1000 * (seconds + 0.2))
        page.click("#take")
        page.wait_for_selector("#take-check:not(:empty):not(:text('Waiting'))")
        tried += 1
        logging.info("%d: %s: %s", tried, sentence, page.inner_text("#take-check"))
        if page.inner_text("#take") == "Next":
            page.click("#take")


def main() -> None:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise UserError("The package playwright is missing: pip install playwright.") from None
    chromium = shutil.which("chromium")
    if not chromium:
        raise UserError("There is no chromium on the PATH: install it, apt-get install chromium.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.add_init_script(MICROPHONE)
        record_all(page, Synthesizer())
        browser.close()


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
