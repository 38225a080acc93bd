"""The flags of the devices."""

from doors import parse_flags

import constants
from speech.engines.devices import TpuSettings
from speech.flags.tpu import define_tpu_flags, tpu_from_flags


def test_flags_are_the_tpu_that_is_wanted() -> None:
    values = parse_flags(define_tpu_flags)
    default = TpuSettings(False, constants.TPU_NAME, None, None, constants.NUM_TPU_CORES)
    assert tpu_from_flags(values) == default
    given = ["--use_tpu", "--tpu_name=t", "--tpu_zone=z", "--gcp_project=p", "--num_tpu_cores=32"]
    assert tpu_from_flags(parse_flags(define_tpu_flags, *given)) == TpuSettings(
        True, "t", "z", "p", 32
    )
