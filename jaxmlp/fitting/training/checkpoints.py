"""Checkpoints of a training run, by orbax: arrays as they are, so that a resumed run is the run, bit for bit."""

import json
from os import PathLike
from pathlib import Path
from typing import Any

import jax


class Checkpoints:
    """The newest two states of a run, in a folder.

    Args:
        folder: made where it is missing.
    """

    def __init__(self, folder: str | PathLike):
        import orbax.checkpoint as ocp

        self.folder = Path(folder).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True, enable_async_checkpointing=False)
        self.manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, epoch: int, arrays: Any, info: dict) -> None:
        """Write arrays and a dictionary of numbers and lists; a killed writer leaves the one before."""
        import orbax.checkpoint as ocp

        self.manager.save(
            epoch, args=ocp.args.Composite(arrays=ocp.args.StandardSave(arrays), info=ocp.args.JsonSave(info))
        )
        self.manager.wait_until_finished()

    def restore(self, like: Any) -> tuple[Any, dict] | None:
        """Return the newest arrays and dictionary, or None where there are none.

        Raises:
            ValueError: the checkpoint is of a run with other arrays than `like`.
        """
        import orbax.checkpoint as ocp

        step = self.manager.latest_step()
        if step is None:
            return None
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            found = self.manager.restore(
                step, args=ocp.args.Composite(arrays=ocp.args.StandardRestore(shapes), info=ocp.args.JsonRestore())
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.folder} holds a training of another potential, optimizer or precision; remove it, or name "
                f"another folder ({json.dumps(str(error)[:200])})."
            ) from None
        return found["arrays"], found["info"]
