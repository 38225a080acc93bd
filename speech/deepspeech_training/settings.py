"""Settings of a run, as DeepSpeech.py's flags give them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Folders:
    """Folders of a run."""

    load: str  # of the model that is loaded; may be a checkpoint of DeepSpeech
    save: str  # of the model that is trained
    shards: str


@dataclass(frozen=True)
class Doors:
    """Arguments of the doors that don't depend on what is in the folders."""

    preparation: tuple[str, ...]  # of every set
    copies: tuple[str, ...]  # of the training set besides
    alphabet: str  # file or utf-8; empty: DeepSpeech's own
    training: tuple[str, ...]
    evaluation: tuple[str, ...]
    transcription: tuple[str, ...]
    export: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What is reported of a test."""

    samples: int  # of the best, the median and the worst
    by_characters: bool  # samples are ranked by CER instead of WER
    output_file: str  # JSON of all samples; empty: none


@dataclass(frozen=True)
class RunSettings:
    """What is run."""

    files: Mapping[str, tuple[str, ...]]  # train, dev, test -> CSV files
    limits: Mapping[str, int]  # likewise -> rows; 0: all
    folders: Folders
    doors: Doors
    report: Report
    epochs: int
    train_batch_size: int
    early_stop: bool
    es_epochs: int
    n_hidden: int
    layer_norm: bool
    load_train: str  # auto, best, last or init
    load_evaluate: str  # auto, best or last
    drop_layers: int
    export_dir: str  # empty: no export
    export_file_name: str
    one_shot_infer: str  # recording; empty: none
    scorer: str  # of the test and of the recording; empty: none
    show_progress: bool
    logging: str  # level of the doors
