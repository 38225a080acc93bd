"""Makes the engine, or the part of one that recognition needs, for the device that was found."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from speech.engines.devices import EAGER, PJRT, Device
from speech.engines.eager import EagerEngine, EagerPredictor
from speech.engines.engine import Engine, InitialValues, Predictor, RunSettings
from speech.networks.config import ModelConfig

# model.model_fn_builder, which only TPUEstimator needs.
ModelFnBuilder = Callable[..., Any]


def make_engine(
    device: Device,
    config: ModelConfig,
    run: RunSettings,
    model_fn_builder: ModelFnBuilder,
    initial_values: InitialValues | None = None,
    shared_settings: Mapping[str, Any] | None = None,
    described: bool = False,
) -> Engine:
    """Makes the engine that trains a network.

    Args:
        initial_values: of a new model; None: the network's own.
        shared_settings: what must be the same in all processes that train together, as JSON
            represents it.
        described: whether to print gradients and logits of some steps.
    """
    more = {
        "initial_values": initial_values,
        "shared_settings": shared_settings,
        "described": described,
    }
    if device.engine == EAGER:
        assert device.distribution
        return EagerEngine(config, run, device.distribution, **more)
    if device.engine == PJRT:
        # Its module needs jax.
        from speech.engines.pjrt import PjrtEngine

        return PjrtEngine(config, run, device.jax_cores, **more)
    model_fn_at = partial(model_fn_builder, config, run.model_dir, described=described)
    return _estimator(model_fn_at, run, device, initial_values)


def make_predictor(
    device: Device, config: ModelConfig, run: RunSettings, model_fn_builder: ModelFnBuilder
) -> Predictor:
    """Makes the part of an engine that recognises."""
    if device.engine == EAGER:
        return EagerPredictor(config, run)
    if device.engine == PJRT:
        from speech.engines.pjrt import PjrtPredictor

        return PjrtPredictor(config, run, device.jax_cores)
    return _estimator(partial(model_fn_builder, config, run.model_dir), run, device)


def _estimator(*arguments: Any) -> Engine:
    # Its module can't be imported by a TensorFlow without tf.estimator.
    from speech.engines.tpu_estimator import TpuEstimatorEngine

    return TpuEstimatorEngine(*arguments)
