"""What can be run beside a training."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

from ssltyped.config.component import AnyConfig, Component, Facts


class Task(Component, ABC):
    """The root of a recipe that is no training: it reads what its fields name, and fills a folder of its own.

    A plain component: its rules, problems and warnings are found before it is built, and nothing is written if it
    cannot run. It does no more than `run`: where its folder is, what was asked for, and how it ended, is seen to by
    whoever runs it (`ssltyped.launch`). With a field `distributed: Distributed` it runs on as many ranks as that says,
    else in one process.

    Args:
        output: folder of all runs.
        name: folder of this one in output; null: the name of the recipe.
    """

    hooks = (*Component.hooks, "facts", "run", "plan")

    output: Path
    name: Optional[str]

    @classmethod
    def facts(cls, config: AnyConfig) -> Facts:
        """What its rules, and those of its parts, may know; they are asked again when a field has been inferred."""
        wanted = getattr(config, "distributed", None)
        procs, nodes = (1, 1) if wanted is None else (wanted.num_procs, wanted.nodes)
        return Facts(
            world_size=procs * nodes,
            ranks_per_node=procs,
            batch_size=1,
            accumulation=1,
            num_views=1,
            crop_sizes=(),
            feature_dims={},
        )

    @abstractmethod
    def run(self, folder: Path) -> Mapping[str, float]:
        """Do it (collective: on every rank), write what it makes into `folder`, and return what it measured.

        Started again in the same folder after a kill, it goes on with what is there.
        """

    @abstractmethod
    def plan(self) -> Iterator[str]:
        """What `run` would do and write, a line each. Reads nothing large."""
