"""Configs: generated from constructors, overridden, checked, resolved, built; each step is one function.

    recipe -> override -> check -> resolve -> build

hydra-zen generates the dataclasses, pydantic validates, OmegaConf reads YAML and interpolations. This folder knows no
model; it is the only one that imports these libraries, and the one where `Any` is allowed.
"""

from ssltyped.config.change import changed as changed
from ssltyped.config.change import get as get
from ssltyped.config.change import part as part
from ssltyped.config.change import replaced as replaced
from ssltyped.config.component import INFERRED as INFERRED
from ssltyped.config.component import ConfigError as ConfigError
from ssltyped.config.component import MayBeInferred as MayBeInferred
from ssltyped.config.component import refuse as refuse
from ssltyped.config.generate import REQUIRED as REQUIRED
from ssltyped.config.generate import TARGET as TARGET
from ssltyped.config.generate import Part as Part
from ssltyped.config.generate import any_says as any_says
from ssltyped.config.generate import config_for as config_for
from ssltyped.config.generate import is_config as is_config
from ssltyped.config.generate import join as join
from ssltyped.config.generate import kinds_of as kinds_of
from ssltyped.config.generate import part_of as part_of
from ssltyped.config.generate import parts as parts
from ssltyped.config.generate import raised_by as raised_by
from ssltyped.config.generate import walk as walk
from ssltyped.config.overrides import override as override
from ssltyped.config.tree import Tree as Tree
from ssltyped.config.tree import from_tree as from_tree
from ssltyped.config.tree import from_yaml as from_yaml
from ssltyped.config.tree import import_targets as import_targets
from ssltyped.config.tree import key_of as key_of
from ssltyped.config.tree import leaves as leaves
from ssltyped.config.tree import to_tree as to_tree
from ssltyped.config.tree import to_yaml as to_yaml
from ssltyped.config.validate import build as build
from ssltyped.config.validate import check as check
