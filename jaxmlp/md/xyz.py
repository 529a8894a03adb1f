"""Trajectories as extended XYZ, readable by ASE, OVITO and by eye."""

import os
import re
from os import PathLike

import numpy as np

from jaxmlp.formats.errors import FormatError
from jaxmlp.md.trajectory import Frame
from jaxmlp.units import fs


class XYZ:
    """Extended XYZ: species, positions (Å), momenta ((amu eV)^(1/2), ASE's unit) and forces (eV/Å) of every atom.

    The comment line has Lattice, pbc, energy (eV), stress (eV/Å^3, ASE's sign), step and time (fs). Each frame goes to
    the file in one write; a run killed in the middle of it leaves at most one incomplete frame, which `keep` removes.

    Args:
        path: the file.
        wrapped: write positions inside the cell; None of the crossings is then visible.
        digits: decimals of positions, momenta and forces.
    """

    def __init__(self, path: str | PathLike, *, wrapped: bool = False, digits: int = 8):
        self.path, self.wrapped, self.digits = path, wrapped, digits

    def keep(self, step: int) -> None:
        if not os.path.exists(self.path) or step == 0:
            open(self.path, "wb").close()
            return
        end = 0
        with open(self.path, "rb") as file:
            while head := file.readline():
                comment = file.readline()
                found = re.search(rb"\bstep=(\d+)", comment)
                if not head.strip().isdigit() or (comment.endswith(b"\n") and found is None):
                    raise FormatError(
                        self.path, None, f"expected frames written by jaxmlp (with step=...); found {head[:40]!r}. "
                        "Choose another file name to keep this file."
                    )  # fmt: skip
                if found is None or int(found[1]) >= step:
                    break
                rows = [file.readline() for _ in range(int(head))]
                if not rows[-1].endswith(b"\n"):
                    break
                end = file.tell()
        os.truncate(self.path, end)

    def append(self, frame: Frame) -> None:
        self._file.write(self._text(frame.wrapped() if self.wrapped else frame).encode())

    def _text(self, frame: Frame) -> str:
        from ase.data import chemical_symbols

        def join(x) -> str:
            return " ".join(f"{v:.12g}" for v in np.ravel(x))

        comment = ["Properties=species:S:1:pos:R:3:momenta:R:3:forces:R:3"]
        if frame.box is not None:
            comment.append(f'Lattice="{join(frame.box)}"')
        comment.append('pbc="{}"'.format(" ".join("FT"[p] for p in frame.pbc)))
        comment.append(f"energy={frame.energy:.12g}")
        if frame.stress is not None:
            comment.append(f'stress="{join(frame.stress)}"')
        comment.append(f"step={frame.step} time={frame.time:.12g}")
        numbers = np.column_stack([frame.R, frame.velocities / fs * frame.masses[:, None], frame.forces])
        row = "%s" + f" %.{self.digits}f" * 9 + "\n"
        symbols = [chemical_symbols[z] for z in frame.numbers]
        rows = "".join(row % (s, *x) for s, x in zip(symbols, numbers.tolist()))
        return f"{len(symbols)}\n{' '.join(comment)}\n{rows}"

    def __enter__(self) -> "XYZ":
        self._file = open(self.path, "ab", buffering=0)
        return self

    def __exit__(self, *error) -> None:
        self._file.close()
