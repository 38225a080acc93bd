"""The flags of the devices."""

from doors import parse_flags

import constants
from speech.engines.devices import AUTO, PJRT, DeviceSettings, TpuSettings
from speech.flags.device import define_device_flags, define_distribution_flag, device_from_flags


def test_flags_are_the_device_that_is_wanted() -> None:
    tpu = TpuSettings(False, constants.TPU_NAME, None, None, constants.NUM_TPU_CORES)
    assert device_from_flags(parse_flags(define_device_flags)) == DeviceSettings(tpu, AUTO, None)
    given = ["--use_tpu", "--tpu_name=t", "--tpu_zone=z", "--gcp_project=p", "--num_tpu_cores=32"]
    found = device_from_flags(parse_flags(define_device_flags, *given, "--engine=PJRT"))
    assert found == DeviceSettings(TpuSettings(True, "t", "z", "p", 32), PJRT)


def test_distribution_is_read_where_the_flag_is_defined() -> None:
    def define() -> None:
        define_device_flags()
        define_distribution_flag()

    assert device_from_flags(parse_flags(define)).distribution is None
    assert device_from_flags(parse_flags(define, "--distribution=mirrored")).distribution == (
        "mirrored"
    )
