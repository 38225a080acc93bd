"""One of several hosts that train a tiny network together, with jax on this machine's CPU.

  python pjrt_host.py NUMBER HOSTS PORT SHARDS MODEL_DIR

Prints the losses of the steps, and how many utterances the leader recognised between two of them,
as JSON.
"""

import json
import sys
from pathlib import Path

import jax
from tiny_training import TRAINING, model_config, predictions, run_settings

from speech.engines.engine import Callbacks, InputFn, StepState
from speech.engines.pjrt import PjrtEngine
from speech.engines.stopping import Stopping
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.training_input import TrainingInput, training_input_fn
from speech.shards.shard_set import find_shards
from speech.tpu.cores import Cores

STEPS = (3, 5)  # of two stretches of training


def main(number: int, hosts: int, port: str, shards: str, model_dir: str) -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_disable_most_optimizations", True)
    jax.distributed.initialize(f"localhost:{port}", hosts, number)
    found, cores = find_shards(shards), Cores.of(jax.devices())
    assert cores.hosts == cores.count == hosts and cores.own.count == 1
    folder = Path(model_dir)
    folder.mkdir(exist_ok=True)
    engine = PjrtEngine(model_config(), run_settings(folder, TRAINING), cores)
    losses: list[float | None] = []

    def on_step(state: StepState) -> None:
        losses.append(state.loss)

    def batches_from(step: int) -> InputFn:
        batching = Batching(TRAINING.train_batch_size, static=True, hosts=hosts)
        return training_input_fn(
            TrainingInput(found, batching, 1, shuffle_buffer_size=8, start_step=step)
        )

    callbacks = Callbacks(Stopping(), on_step)
    recognised = 0
    if engine.is_leader:
        for before, until in zip((0, *STEPS), STEPS, strict=False):
            assert engine.train(batches_from(before), until, 1.0, callbacks) == until
            recognised += len(predictions(engine, folder, found, static=True))
    else:
        engine.follow(batches_from, callbacks)
    engine.close()
    print(json.dumps([losses, recognised]))


if __name__ == "__main__":
    number, hosts, *others = sys.argv[1:]
    main(int(number), int(hosts), *others)
