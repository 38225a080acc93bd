"""Flags of the devices that a network runs on."""

from typing import Any

from absl import flags

import constants
from speech.engines.cluster import MIRRORED, MULTI_WORKER
from speech.engines.devices import AUTO, ENGINES, DeviceSettings, TpuSettings
from speech.flags import kinds


def define_device_flags() -> None:
    """Defines the flags that training and evaluation share."""
    kinds.define_choice(
        "engine",
        AUTO,
        ENGINES,
        "Engine that runs the network: eager on CPUs and GPUs, estimator (TensorFlow 2.15) on TPU "
        "v2 to v4, pjrt on TPU v5e and later; auto chooses by device and TensorFlow.",
    )
    flags.DEFINE_bool("use_tpu", False, "Use of a TPU instead of this machine's CPU or GPU.")
    flags.DEFINE_string(
        "tpu_name",
        constants.TPU_NAME,
        "Name or grpc:// address of the TPU; local on a TPU VM.",
    )
    flags.DEFINE_string("tpu_zone", None, "Zone of a TPU that isn't local, e.g. us-central1-b.")
    flags.DEFINE_string("gcp_project", None, "Project of a TPU that isn't local.")
    kinds.define_integer(
        "num_tpu_cores", constants.NUM_TPU_CORES, "Number of the TPU's cores.", lower_bound=1
    )


def device_from_flags(values: Any) -> DeviceSettings:
    """Reads the flags of the device; values: absl's FLAGS."""
    tpu = TpuSettings(
        values.use_tpu,
        values.tpu_name,
        values.tpu_zone,
        values.gcp_project,
        values.num_tpu_cores,
    )
    distribution = getattr(values, "distribution", None)  # evaluation has no such flag
    return DeviceSettings(tpu, values.engine, distribution)


def define_distribution_flag() -> None:
    """Defines the flag that trains on several devices without a TPU."""
    kinds.define_choice(
        "distribution",
        None,
        [MIRRORED, MULTI_WORKER],
        "Devices to train on: mirrored for all GPUs of this machine, multi_worker for the machines "
        "that TF_CONFIG names. --train_batch_size is over all of them.",
    )
