"""The images of a run that could not be read."""

import json
from collections.abc import Sequence
from pathlib import Path

from ssltyped import distributed
from ssltyped.data.reading import Unreadable
from ssltyped.engine.parallel import tell


class UnreadableImages:
    """Names every unreadable image once, on the terminal and in `unreadable_rank<r>.jsonl`.

    In training it was replaced by another one, in an evaluation it is left out.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: set[str] = set()
        self._repeated = 0

    @property
    def counts(self) -> dict[str, float]:
        """To be logged: how many there are and, where no others were left, how many places had an image twice."""
        found = {"unreadable_images": len(self._names), "repeated_images": self._repeated}
        return {name: float(count) for name, count in found.items() if count}

    def __call__(self, records: Sequence[Unreadable]) -> None:
        new = [record for record in records if record.name not in self._names]
        self._names.update(record.name for record in new)
        self._repeated += sum(record.repeated for record in records)
        with (self._folder / f"unreadable_rank{distributed.rank()}.jsonl").open("a") as file:
            for record in new:
                tell(f"unreadable image, not used: {record.name} ({record.reason})")
                file.write(json.dumps({"path": record.name, "index": record.index, "reason": record.reason}) + "\n")
