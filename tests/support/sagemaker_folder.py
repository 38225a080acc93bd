"""Makes SageMaker's folder, and runs its two commands, as SageMaker does."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doors import ROOT, environment_of_door

from speech.sagemaker.job import FOLDER_VARIABLE


def lay(root: Path, parameters: Mapping[str, str], *channels: str) -> None:
    """Writes SageMaker's files of a job; the channels' data exist already."""
    of_channel = {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
    write_config(root, "hyperparameters", parameters)
    write_config(root, "inputdataconfig", dict.fromkeys(channels, of_channel))
    write_config(
        root,
        "resourceconfig",
        {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"},
    )
    (root / "model").mkdir(exist_ok=True)
    (root / "output").mkdir(exist_ok=True)


def write_config(root: Path, name: str, content: Any) -> None:
    path = root / "input" / "config" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def start(command: str, root: Path, *flags: str) -> "subprocess.Popen[str]":
    """Starts `train` or `serve` for a folder, found on the PATH as in the image."""
    folders = [ROOT / "sagemaker", Path(sys.executable).parent]
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    return subprocess.Popen(
        [command, *flags],
        cwd=root,
        env=environment_of_door({"PATH": path, FOLDER_VARIABLE: str(root)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(command: str, root: Path, seconds: float = 300) -> "subprocess.CompletedProcess[str]":
    with start(command, root) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess([command], process.returncode, output, errors)
