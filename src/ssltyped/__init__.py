"""ssltyped: strongly typed, code-first visual self-supervised learning.

from recipes.simclr_folder import simclr_folder
from ssltyped import launch

run = launch(simclr_folder(image_size=64), overrides=["data.train.path=MY_IMAGES", "epochs=1"])
run.metrics, run.folder, run.model
"""

import os
import signal
import sys

if sys.argv[:1] == ["-m"] and "ssltyped.run" in sys.orig_argv:  # what follows takes seconds: Ctrl-C ends it in silence
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))

# Threads that wait for work must not spin: beside data workers on the same cores that costs up to 12 times.
# It is read when torch is first imported; whoever sets it decides.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# DDP advises against find_unused_parameters, which a bitwise resume needs (see strategy.py), from C++ and on each rank.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from ssltyped.config import INFERRED as INFERRED
from ssltyped.config import REQUIRED as REQUIRED
from ssltyped.config import ConfigError as ConfigError
from ssltyped.config import build as build
from ssltyped.config import changed as changed
from ssltyped.config import check as check
from ssltyped.config import config_for as config_for
from ssltyped.config import from_yaml as from_yaml
from ssltyped.config import part as part
from ssltyped.config import to_yaml as to_yaml
from ssltyped.config.overrides import override as override
from ssltyped.engine.trainer import Outcome as Outcome
from ssltyped.experiment import Experiment as Experiment
from ssltyped.experiment import ExperimentConf as ExperimentConf
from ssltyped.launch import Run as Run
from ssltyped.launch import launch as launch
from ssltyped.launch import replay as replay
from ssltyped.tasks.running import TaskRun as TaskRun
