# ruff: noqa: B018
"""The functions around a recipe: launch, override, check, build, plan, resolve, and what they give."""

from pathlib import Path

import torch

from recipes.simclr import simclr
from ssltyped.cli.plan import plan
from ssltyped.cli.recipe import load_recipe
from ssltyped.config import ConfigError, build, check, config_for, from_yaml, replaced, to_yaml
from ssltyped.config.grammar import expand
from ssltyped.config.overrides import override
from ssltyped.config.resolve import Resolution, resolve
from ssltyped.engine.trainer import Outcome
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.launch import Run, launch, replay
from ssltyped.losses.simclr import SimCLRLoss, SimCLRLossConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import SGDConf
from ssltyped.resolution import FactFinder, resolve_experiment
from ssltyped.types import Head, Inference, Loss, Problem

recipe = simclr()

# launch
launch()  # E: call-overload
launch("recipes.simclr_8node")  # E: call-overload
launch(simclr)  # E: call-overload
launch(SimCLRLossConf())  # E: call-overload
launch(recipe, overrides=[1])  # E: list-item
launch(recipe, overrides={"epochs": 1})  # E: call-overload
launch(recipe, ["epochs=1"], "mine")  # E: call-overload
launch(recipe, epochs=1)  # E: call-overload, call-overload
launch(recipe, name=Path("mine"))  # E: call-overload
launch(recipe).loss  # E: attr-defined
launch(recipe).folder.append("x")  # E: attr-defined
launch(recipe).metrics["knn_top1"].upper()  # E: attr-defined
code: int = launch(recipe)  # E: assignment
finished: bool = launch(recipe).outcome  # E: assignment
Outcome.DONE  # E: attr-defined
launched: Run = launch(recipe).model  # E: assignment

# override, expand
override(recipe)  # E: call-arg
override(recipe, epochs=1)  # E: call-arg
override(recipe, ["epochs=1", 2])  # E: list-item
changed: Loss = override(recipe, ["epochs=1"])  # E: assignment
loss_changed: Experiment = override(SimCLRLossConf(), ["temperature=0.2"])  # E: assignment
combinations: list[str] = expand(["seed=1,2"])  # E: assignment

# check, build, YAML: they give what they were given
checked: Head = check(SimCLRLossConf())  # E: assignment
built: Head = build(SimCLRLossConf())  # E: assignment
build(SimCLRLossConf()).temperature.upper()  # E: attr-defined
build(MLPHeadConf(dims=[128])).dims.items()  # E: attr-defined
build(recipe).losses  # E: attr-defined
build()  # E: call-arg
text: bytes = to_yaml(recipe)  # E: assignment
from_yaml(Path("resolved.yaml"))  # E: arg-type
replaced(recipe, epochs=1)  # E: call-arg
replaced(recipe, ["epochs=1"])  # E: arg-type
ConfigError("wrong")  # E: arg-type
ConfigError(["wrong"])  # E: list-item
Problem("loss")  # E: call-arg
Problem(path=1, message="wrong")  # E: arg-type
Inference("lr", 0.1)  # E: call-arg

# resolve, plan
resolve(recipe)  # E: call-arg
resolve(recipe, 8)  # E: arg-type
resolve_experiment("recipes.simclr")  # E: arg-type
resolution: Resolution[Loss] = resolve_experiment(recipe)  # E: assignment
FactFinder()(SimCLRLossConf())  # E: arg-type
plan(recipe)  # E: call-arg
plan("recipes.simclr_8node", "simclr")  # E: arg-type
load_recipe(recipe)  # E: arg-type
load_recipe("recipes.simclr_8node").temperature  # E: attr-defined
replay(1)  # E: arg-type
replay("nan.pt").backward()  # E: attr-defined

# config_for takes a class, and its product only what the class does
config_for()  # E: call-arg
config_for(recipe)  # E: arg-type
config_for("SimCLRLoss")  # E: arg-type
config_for(SimCLRLoss)(momentum=0.9)  # E: call-arg
SGDConf(rate=RateConf(lr=0.1))("model")  # E: arg-type
SGDConf(rate=RateConf(lr=0.1))(torch.nn.Linear(1, 1)).steps()  # E: attr-defined
