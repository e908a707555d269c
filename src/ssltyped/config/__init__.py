"""Configs: generated from constructors, overridden, checked, resolved, built; each step is one function.

    recipe -> override -> check -> resolve -> build

hydra-zen generates the dataclasses, pydantic validates, OmegaConf reads YAML and interpolations. This folder knows no
model; it is the only one that imports these libraries, and the one where `Any` is allowed.
"""

from ssltyped.config.change import changed, get, part, replaced
from ssltyped.config.component import INFERRED, ConfigError
from ssltyped.config.generate import REQUIRED, TARGET, Part, config_for, is_config, join, part_of, parts, walk
from ssltyped.config.overrides import override
from ssltyped.config.tree import Tree, from_tree, from_yaml, import_targets, to_tree, to_yaml
from ssltyped.config.validate import build, check

__all__ = [
    "INFERRED",
    "REQUIRED",
    "TARGET",
    "ConfigError",
    "Part",
    "Tree",
    "build",
    "changed",
    "check",
    "config_for",
    "from_tree",
    "from_yaml",
    "get",
    "import_targets",
    "is_config",
    "join",
    "override",
    "part",
    "part_of",
    "parts",
    "replaced",
    "to_tree",
    "to_yaml",
    "walk",
]
