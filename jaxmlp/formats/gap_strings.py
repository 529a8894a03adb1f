"""Descriptor strings of GAP files, `soap l_max=8 n_max=8 species_Z={14 6} ...`: read and written.

Values that hold blanks stand in braces, which may be nested. Keys that only matter when fitting are passed over; keys
that would change energies in a way that is not implemented are refused by name, and so are unknown ones.
"""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from jaxmlp.basis.gap_clusters import Angle3b, Distance2b, DistanceNb
from jaxmlp.basis.soap import SOAP
from jaxmlp.basis.soap_turbo import SOAPTurbo
from jaxmlp.formats.text import TextReader, as_float

# QUIP's defaults and formulas changed with these versions of the code.
DEGREES_WEIGHED = 1423143769
CENTER_IN_OWN_DENSITY = 1426512068
COMPACT_BY_DEFAULT = 1596837814

FIT_ONLY = {
    "delta", "f0", "zeta", "covariance_type", "theta", "theta_uniform", "theta_fac", "theta_file", "sparse_method",
    "n_sparse", "config_type_n_sparse", "sparse_file", "mark_sparse_atoms", "add_species", "print_sparse_index",
    "unique_hash_tolerance", "unique_descriptor_tolerance", "max_dist",
}  # fmt: skip

# Keys that change energies, and the values with which they do nothing; others are refused.
NOT_IMPLEMENTED = {
    "distance_2b": {"resid_name": "", "only_intra": "F", "only_inter": "F"},
    "soap": {
        "average": "F", "nu_R": "2", "nu_S": "2", "Z_mix": "F", "R_mix": "F", "sym_mix": "F", "coupling": "T", "K": "0",
        "mix_shift": "0", "Z_map": "",
    },
    "soap_turbo": {"scaling_mode": "polynomial"},
}  # fmt: skip

LARGEST = 10**6  # components of a SOAP vector; published ones have up to some 10^4

Descriptor = Distance2b | Angle3b | DistanceNb | SOAP | SOAPTurbo


class Arguments:
    """The type and the key=value pairs of a descriptor string; each value can be taken once, by any of its names.

    Args:
        text: the string.
        refuse: raises an error that says where, from "expected ...".
    """

    def __init__(self, text: str, refuse: Callable[[str], NoReturn]):
        self.refuse = refuse
        words = _split(text, refuse)
        if not words or "=" in words[0]:
            refuse(f"a descriptor string, found `{text.strip()[:60]}`")
        self.kind = words[0]
        self.values: dict[str, str] = {}
        for word in words[1:]:
            key, equals, value = word.partition("=")
            if not equals or key in self.values:
                refuse(f"key=value in the descriptor string, each key once, found `{word[:60]}`")
            self.values[key] = value

    def has(self, *names: str) -> bool:
        return any(name in self.values for name in names)

    def words(self, *names: str, default: str | None = None) -> list[str]:
        """Return the words of the value of the first of these keys that is there; all are taken."""
        found = [self.values.pop(name) for name in names if name in self.values]
        value = found[0] if found else default
        if value is None:
            self.refuse(f"`{names[0]}=` in the descriptor string of {self.kind}")
        while value.startswith("{") and value.endswith("}"):
            value = value[1:-1].strip()
        return value.replace(",", " ").split()

    def word(self, *names: str, default: str | None = None) -> str:
        words = self.words(*names, default=default)
        if len(words) > 1:
            self.refuse(f"one word for `{names[0]}`, found {len(words)}")
        return words[0] if words else ""

    def flag(self, *names: str, default: str) -> bool:
        word = self.word(*names, default=default).strip(".")
        if word[:1].upper() not in ("T", "F"):
            self.refuse(f"T or F for `{names[0]}`, found `{word[:40]}`")
        return word[0].upper() == "T"

    def numbers(self, count: int, *names: str, default: str | None = None) -> tuple[float, ...]:
        """Return `count` finite numbers; one alone stands for all."""
        words = self.words(*names, default=default)
        values = [as_float(w) for w in words]
        if len(values) == 1:
            values *= count
        if len(values) != count or not all(map(math.isfinite, values)):
            self.refuse(f"{count} finite numbers for `{names[0]}`, found `{' '.join(words)[:60]}`")
        return tuple(values)

    def integers(self, count: int, *names: str, default: str | None = None) -> tuple[int, ...]:
        values = self.numbers(count, *names, default=default)
        if any(v != int(v) or abs(v) >= 1e9 for v in values):
            self.refuse(f"{count} integers for `{names[0]}`, found {values}")
        return tuple(int(v) for v in values)

    def number(self, *names: str, default: str | None = None) -> float:
        return self.numbers(1, *names, default=default)[0]

    def integer(self, *names: str, default: str | None = None) -> int:
        return self.integers(1, *names, default=default)[0]

    def finish(self) -> None:
        """Refuse keys that change energies, and unknown ones."""
        for key, harmless in NOT_IMPLEMENTED.get(self.kind, {}).items():
            value = self.word(key, default=harmless)
            if value.strip(".").upper()[: max(len(harmless), 1)] != harmless.upper():
                self.refuse(f"`{key}={harmless}` or nothing, found `{key}={value[:40]}`, which is not supported")
        left = sorted(self.values.keys() - FIT_ONLY)
        if left:
            self.refuse(f"known keys in the descriptor string of {self.kind}, found `{left[0][:40]}`")


def _split(text: str, refuse: Callable[[str], NoReturn]) -> list[str]:
    """Words separated by blanks outside braces; blanks around = are dropped."""
    words, depth, current = [], 0, ""
    for c in re.sub(r"\s*=\s*", "=", text.strip()) + " ":
        depth += (c == "{") - (c == "}")
        if depth < 0:
            break
        if c.isspace() and depth == 0:
            words += [current] if current else []
            current = ""
        else:
            current += c
    if depth:
        refuse(f"braces in pairs in the descriptor string, found `{text.strip()[:60]}`")
    return words


def descriptors(
    text: str, version: int, folder: Path, refuse: Callable[[str], NoReturn]
) -> list[tuple[Descriptor, int]]:
    """Return the descriptor and the element of its centre (soap: 0 for any), for each element of `Z` of a soap.

    Args:
        version: the file's `gap_version`.
        folder: where a compress_file is.
        refuse: raises an error that says where, from "expected ...".

    Raises:
        FormatError: by `refuse`.
    """
    a = Arguments(text, refuse)
    reader = READERS.get(a.kind)
    if reader is None:
        refuse(f"a descriptor that is supported ({', '.join(READERS)}), found `{a.kind[:40]}`")
    try:
        found = reader(a, version, folder)
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        refuse(f"a descriptor that makes sense: {error}")
    a.finish()
    return found


def _cutoffs(a: Arguments) -> dict[str, float]:
    names = ("cutoff", "cutoff_transition_width")
    return {name: a.number(name, default=default) for name, default in zip(names, (None, "0.5"))}


def _distance_2b(a: Arguments, version: int, folder: Path) -> list[tuple[Descriptor, int]]:
    n = a.integer("n_exponents", default="1")
    if not 1 <= n <= 100:
        a.refuse(f"`n_exponents` from 1 to 100, found {n}")
    plain = "1" if n == 1 else " ".join(str(-i) for i in range(1, n + 1))
    tail = a.has("tail_exponent")
    reach, exponent = a.number("tail_range", default="1.0"), a.integer("tail_exponent", default="0")
    elements = (a.integer("Z1", default="0"), a.integer("Z2", default="0"))
    exponents = a.integers(n, "exponents", default=plain)
    return [(Distance2b(**_cutoffs(a), elements=elements, exponents=exponents,
                        tail_range=reach if tail else None, tail_exponent=exponent), 0)]  # fmt: skip


def _angle_3b(a: Arguments, version: int, folder: Path) -> list[tuple[Descriptor, int]]:
    center = a.integer("Z_center", "Z", default="0")
    elements = (a.integer("Z1", default="0"), a.integer("Z2", default="0"))
    return [(Angle3b(**_cutoffs(a), center=center, elements=elements), 0)]


def _distance_nb(a: Arguments, version: int, folder: Path) -> list[tuple[Descriptor, int]]:
    order = a.integer("order")
    if not 1 <= order <= 100:
        a.refuse(f"`order` as a number of atoms, found {order}")
    elements = a.integers(order, "Z", default="0")
    compact = a.flag("compact_clusters", default="F" if version < COMPACT_BY_DEFAULT else "T")
    return [(DistanceNb(order, **_cutoffs(a), elements=elements, compact_clusters=compact), 0)]


def _soap(a: Arguments, version: int, folder: Path) -> list[tuple[Descriptor, int]]:
    n_species = a.integer("n_species", default="1")
    n_centers = a.integer("n_Z", default="1")
    if not 1 <= n_species <= 118 or not 1 <= n_centers <= 118:
        a.refuse(f"`n_species` and `n_Z` from 1 to 118, found {n_species} and {n_centers}")
    n_max, l_max = a.integer("n_max"), a.integer("l_max")
    _check_size(a, [n_max] * n_species, l_max)
    own_only = n_species > 1 and version >= CENTER_IN_OWN_DENSITY
    descriptor = SOAP(
        species=a.integers(n_species, "species_Z", default="0"),
        n_max=n_max,
        l_max=l_max,
        atom_sigma=a.number("atom_gaussian_width", "atom_sigma"),
        central_weight=a.number("central_weight", default="1.0"),
        basis_error_exponent=a.number("basis_error_exponent", default="10.0"),
        radial_basis=a.word("radial_basis", default="") or "EQUISPACED_GAUSS",
        normalise=a.flag("normalise", "normalize", default="T"),
        diagonal_radial=a.flag("diagonal_radial", default="F"),
        covariance_sigma0=a.number("covariance_sigma0", default="0.0"),
        central_reference_all_species=_all_species(a, own_only, version),
        cutoff_dexp=a.integer("cutoff_dexp", default="0"),
        cutoff_scale=a.number("cutoff_scale", default="1.0"),
        cutoff_rate=a.number("cutoff_rate", default="1.0"),
        weigh_degrees=version >= DEGREES_WEIGHED,
        **_cutoffs(a),
    )
    return [(descriptor, z) for z in a.integers(n_centers, "Z", default="0")]


def _check_size(a: Arguments, radial: Sequence[int], l_max: int) -> None:
    """Refuse numbers of radial functions (of all species) and degrees that make vectors of absurd length."""
    n = sum(radial)
    if min(radial) < 1 or l_max < 0 or n * (n + 1) // 2 * (l_max + 1) > LARGEST:
        a.refuse(f"a vector of 1 to {LARGEST} components, found {n} radial functions of all species, l_max {l_max}")


def _all_species(a: Arguments, own_only: bool, version: int) -> bool:
    """Old versions ignore what the string says."""
    stated = a.flag("central_reference_all_species", default="F" if own_only else "T")
    return stated or version < CENTER_IN_OWN_DENSITY


def _soap_turbo(a: Arguments, version: int, folder: Path) -> list[tuple[Descriptor, int]]:
    s = a.integer("n_species", default="1")
    if not 1 <= s <= 118:
        a.refuse(f"`n_species` from 1 to 118, found {s}")
    hard = a.number("rcut_hard", "cutoff")
    if a.has("rcut_soft"):
        soft = a.number("rcut_soft", "cutoff_transition_width")
    else:
        soft = hard - a.number("cutoff_transition_width", default="0.5")
    width = a.words("atom_sigma", default="")
    scaling = a.words("atom_sigma_scaling", default="0.0")
    alpha_max = a.integers(s, "alpha_max", "n_max")
    l_max = a.integer("l_max")
    _check_size(a, alpha_max, l_max)
    coupling, compress = compression(a, alpha_max, l_max, folder)
    descriptor = SOAPTurbo(
        species=a.integers(s, "species_Z"),
        rcut_hard=hard,
        rcut_soft=soft,
        l_max=l_max,
        alpha_max=alpha_max,
        atom_sigma_r=a.numbers(s, "atom_sigma_r", default=" ".join(width) or None),
        atom_sigma_t=a.numbers(s, "atom_sigma_t", default=" ".join(width) or None),
        atom_sigma_r_scaling=a.numbers(s, "atom_sigma_r_scaling", default=" ".join(scaling)),
        atom_sigma_t_scaling=a.numbers(s, "atom_sigma_t_scaling", default=" ".join(scaling)),
        amplitude_scaling=a.numbers(s, "amplitude_scaling", default="1.0"),
        central_weight=a.numbers(s, "central_weight", default="1.0"),
        central_index=a.integer("central_index", default="1"),
        nf=a.number("nf", default="4.0"),
        radial_enhancement=a.integer("radial_enhancement", default="0"),
        basis=a.word("basis", default="poly3"),
        coupling=coupling,
        compress=compress,
    )
    return [(descriptor, 0)]


def compression(
    a: Arguments, alpha_max: tuple[int, ...], l_max: int, folder: Path
) -> tuple[tuple[int, int], tuple[int, ...] | None]:
    """Return `coupling` and `compress` of a SOAPTurbo; a file comes before a mode."""
    mode, file = a.word("compress_mode", default="None"), a.word("compress_file", default="None")
    if file != "None":
        if Path(file).name != file:
            a.refuse(f"the `compress_file` in the folder of the potential, found `{file[:60]}`")
        return (2, 2), _kept(folder / file, len(alpha_max))
    if mode == "None":
        return (2, 2), None
    if re.fullmatch("[012]_[012]", mode):
        return (int(mode[0]), int(mode[2])), None
    if mode.lower() != "trivial":
        a.refuse(f"`compress_mode` None, trivial or 0_0 to 2_2, found `{mode[:40]}`")
    first = {sum(alpha_max[:s]) for s in range(len(alpha_max))}
    total = sum(alpha_max)
    pairs = [(n, m) for n in range(total) for m in range(n, total)]
    return (2, 2), tuple(
        k * (l_max + 1) + l for k, (n, m) in enumerate(pairs) if n in first or m in first for l in range(l_max + 1)
    )


def _kept(path: Path, species: int) -> tuple[int, ...]:
    """Read a compress_file: alpha_max of every species, l_max, a number of components; then their numbers, from 1."""
    reader = TextReader(path, "a compress_file of soap_turbo")
    head = reader.next("alpha_max of every species, l_max and the number of components")
    head[: species + 2].expect_length(species + 2, "alpha_max of every species, l_max, the number of components")
    count = head.expect_int(species + 1, "the number of components", 1, reader.size)
    kept = []
    for _ in range(count):
        line = reader.next("the number of a component")
        if line[0] == "P_transformation":
            line.refuse("numbers of components: transformations that mix them are not supported;")
        kept.append(line.expect_int(0, "the number of a component", 1, 10**9) - 1)
    return tuple(kept)


READERS = {
    "distance_2b": _distance_2b,
    "angle_3b": _angle_3b,
    "distance_Nb": _distance_nb,
    "soap": _soap,
    "soap_turbo": _soap_turbo,
}
