"""Reads which model a folder of checkpoints has, without TensorFlow."""

import re
from dataclasses import dataclass

from speech.networks.config import config_path, read_config
from speech.system import storage
from speech.system.mistaken_paths import STATE_FILES
from utils import UserError

_NAMED = re.compile(r'^model_checkpoint_path: "(?:.*/)?([^"/]+-([0-9]+))"', re.MULTILINE)


@dataclass(frozen=True)
class ModelFolder:
    """A folder of checkpoints, which needn't exist."""

    path: str

    @property
    def is_deepspeechs(self) -> bool:
        """Whether it has a checkpoint of DeepSpeech."""
        return not storage.exists(config_path(self.path)) and bool(self.identity)

    @property
    def has_model(self) -> bool:
        """Whether it is a model directory with a checkpoint."""
        return storage.exists(config_path(self.path)) and bool(self.latest)

    @property
    def identity(self) -> str:
        """The texts that name its checkpoints; empty without any."""
        paths = [storage.join(self.path, name) for name in STATE_FILES]
        return "".join(storage.read_text(path) for path in paths if storage.exists(path))

    @property
    def latest(self) -> str:
        """The path of its latest checkpoint; empty without one."""
        named = self._named()
        return storage.join(self.path, named[1]) if named else ""

    @property
    def step(self) -> int:
        """The step of its latest checkpoint; 0 without one."""
        named = self._named()
        return int(named[2]) if named else 0

    def _named(self) -> "re.Match[str] | None":
        path = storage.join(self.path, STATE_FILES[-1])
        return _NAMED.search(storage.read_text(path)) if storage.exists(path) else None

    def check_network(self, n_hidden: int, layer_norm: bool) -> None:
        """Raises UserError if its model has another network."""
        if not self.has_model:
            return
        network = read_config(self.path).network
        for flag, given, own in (
            ("n_hidden", n_hidden, network.dense_unit_size),
            ("layer_norm", layer_norm, network.layer_norm),
        ):
            if own != given:
                raise UserError(
                    f"--{flag}={given}: the model in {self.path} has {own}. Give that, or another "
                    "--checkpoint_dir."
                )
