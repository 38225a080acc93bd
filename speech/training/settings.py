"""Settings of a training, as flags give them and before the data are known."""

from dataclasses import dataclass, field

from speech.engines.devices import DeviceSettings
from speech.engines.engine import RunSettings
from speech.networks.config import NetworkChoice, TrainingConfig
from speech.training.early_stopping import EarlyStopping


@dataclass(frozen=True)
class DataSettings:
    """The shards to train and evaluate on, and how they are read."""

    train_data: str  # a glob
    dev_data: str = ""  # a glob; empty for no development set
    shuffle_buffer_size: int | None = None  # utterances; None: as many as fit into memory
    sorta_grad: bool = False  # short utterances first in the first epoch
    lexicon: str | None = None  # a file of pronunciations; None: the network learns no phones


@dataclass(frozen=True)
class StartSettings:
    """The trained model whose variables a new model starts with."""

    init_checkpoint: str | None = None  # None: the network's own initial values
    drop_layers: int = 0  # last layers that aren't loaded


@dataclass(frozen=True)
class LoopSettings:
    """When training evaluates and ends."""

    train_steps: int | None = None  # the last step; None: it follows from max_epochs
    max_epochs: float = 1.0
    eval_steps: int | None = None  # steps between two evaluations; None: an epoch
    best_by: str = "wer"  # one of dev_evaluation.METRICS
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    average_weights: tuple[float, ...] = ()  # of the last checkpoints, newest first; () for none
    max_bad_steps: int = 0  # steps whose loss isn't finite that may be skipped


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that a training is started with."""

    data: DataSettings
    network: NetworkChoice
    optimisation: TrainingConfig  # with a number of steps that the data will give
    loop: LoopSettings
    start: StartSettings
    run: RunSettings
    device: DeviceSettings
    describe_steps: bool = False  # print values of some steps, see optimisation/step_description.py
