"""Flags of serve.py."""

import re

from absl import flags

import constants
from speech.corpora.formats.reading import read_text
from speech.decoding.beam_search import BeamSettings
from speech.export import english
from speech.flags import decoder as decoder_flags
from speech.flags import kinds
from speech.serving.settings import RecordingSettings, RequestLimits, ServerSettings
from utils import UserError

# What a speaker agrees to, without --consent.
CONSENT = (
    "My recordings, their texts and my name or pseudonym are stored on this server and used to "
    "train and test speech recognition. I can delete all of them on this page at any time."
)

HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def define_serving_flags() -> None:
    kinds.define_paths(
        "models",
        [],
        "Model directories, SavedModels and .tflite files, comma-separated; the first is the one "
        f"that requests without a model use. Default: {constants.MODEL_DIR} if there is such a "
        "model, else the English one in models/ with its scorer.",
    )
    kinds.define_paths("scorers", [], "Scorers of build_lm.py or of DeepSpeech, comma-separated.")
    flags.DEFINE_string(
        "host", "127.0.0.1", "Address to listen at; 0.0.0.0: every address of this machine."
    )
    flags.DEFINE_list(
        "allowed_hosts",
        [],
        "Further host names that requests may use, comma-separated: this machine's, or those of a "
        "proxy in front of it. localhost, IP addresses and --host are always allowed.",
    )
    kinds.define_integer(
        "port", 8080, "Port to listen at; 0: any free port.", lower_bound=0, upper_bound=65535
    )
    flags.DEFINE_string(
        "api_key_file",
        None,
        "File with a key a line; requests must carry one of them. Default: requests need no key.",
    )
    kinds.define_integer(
        "wyoming_port",
        None,
        "Port of Wyoming, Home Assistant's voice protocol, at the same address, usually 10300; 0: "
        "any free port.",
        lower_bound=0,
        upper_bound=65535,
    )
    flags.DEFINE_string(
        "wyoming_language",
        "",
        "Language of models that name none, e.g. en, for Home Assistant. export.py "
        "--export_language writes it into a model.",
    )
    kinds.define_number("max_upload_mb", 100, "Largest recording, in MB.", lower_bound=0.001)
    kinds.define_number(
        "max_seconds", 3600, "Longest recording or stream, in seconds.", lower_bound=1
    )
    kinds.define_paths("test_data", [], "Test shards to browse, comma-separated globs.")
    kinds.define_paths(
        "audio", [], "Folders with the recordings of the test shards, comma-separated."
    )
    kinds.define_integer(
        "batch_size", 16, "Maximum number of utterances in a model's batch.", lower_bound=1
    )
    kinds.define_integer(
        "max_waiting",
        100,
        "Maximum number of requests in progress or waiting; further ones get status 503.",
        lower_bound=1,
    )
    _define_recording_flags()
    decoder_flags.define_search_flags()


def _define_recording_flags() -> None:
    flags.DEFINE_string(
        "recordings",
        None,
        "Folder of a corpus that visitors of the page record. Default: nothing is stored.",
    )
    flags.DEFINE_string(
        "prompts",
        None,
        "Sentences to record: a text file with one on each line, or with id,text.",
    )
    flags.DEFINE_string(
        "consent", None, "Text file that a speaker has to agree to. Default: a general text."
    )


def server_settings_from_flags(values: flags.FlagValues) -> ServerSettings:
    """Returns the settings that the flags give.

    Raises:
        UserError: a name of --allowed_hosts isn't a host name, or there is no model.
    """
    models, scorers = tuple(values.models), tuple(values.scorers)
    if not models:
        model, scorer = english.default_model()
        models, scorers = (model,), scorers or ((scorer,) if scorer else ())
    return ServerSettings(
        models=models,
        scorers=scorers,
        test_data=tuple(values.test_data),
        audio=tuple(values.audio),
        host=values.host,
        port=values.port,
        wyoming_port=values.wyoming_port,
        wyoming_language=values.wyoming_language,
        host_names=_host_names(values.host, values.allowed_hosts),
        limits=RequestLimits(
            round(values.max_upload_mb * 1e6), values.max_seconds, values.max_waiting
        ),
        batch_size=values.batch_size,
        recordings=_recording_settings(values),
        search=BeamSettings(
            values.beam_width,
            values.cutoff_prob,
            values.cutoff_top_n,
            unknown_penalty=values.unknown_penalty,
        ),
        api_key_file=values.api_key_file,
    )


def _recording_settings(values: flags.FlagValues) -> RecordingSettings | None:
    """Returns the settings of --recordings; None without it.

    Raises:
        UserError: there are prompts or a consent and no folder, or the consent can't be read.
    """
    if not values.recordings:
        for flag in ("prompts", "consent"):
            if values[flag].value:
                raise UserError(
                    f"--{flag}={values[flag].value} needs a folder for what is recorded: name one "
                    "with --recordings."
                )
        return None
    consent = read_text(values.consent).strip() if values.consent else CONSENT
    return RecordingSettings(values.recordings, values.prompts or "", consent)


def _host_names(host: str, allowed: list[str]) -> frozenset[str]:
    """Returns the names of this server, in lower case and ASCII."""
    names = {host.lower()}
    for given in allowed:
        try:
            name = given.encode("idna").decode().lower()
        except UnicodeError:
            name = ""
        if not HOST_NAME.fullmatch(name):
            raise UserError(
                f"--allowed_hosts={given} is not a host name: give it as speech.example.org, "
                "without http://, port and path."
            )
        names.add(name)
    return frozenset(names)
