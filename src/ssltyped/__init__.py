"""ssltyped: strongly typed, code-first visual self-supervised learning.

from recipes.simclr_folder import simclr_folder
from ssltyped import launch

run = launch(simclr_folder(image_size=64), overrides=["data.train.path=MY_IMAGES", "epochs=1"])
run.metrics, run.folder, run.model
"""

import os

# Threads that wait for work must not spin: beside data workers on the same cores that costs up to 12 times.
# It is read when torch is first imported; whoever sets it decides.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from ssltyped.config import INFERRED, REQUIRED, ConfigError, build, changed, check, config_for, from_yaml, part, to_yaml
from ssltyped.config.overrides import override
from ssltyped.experiment import Experiment, ExperimentConf
from ssltyped.launch import Run, launch, replay

__all__ = [
    "INFERRED",
    "REQUIRED",
    "ConfigError",
    "Experiment",
    "ExperimentConf",
    "Run",
    "build",
    "changed",
    "check",
    "config_for",
    "from_yaml",
    "launch",
    "override",
    "part",
    "replay",
    "to_yaml",
]
