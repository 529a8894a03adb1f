"""Writing of GAP files that QUIP reads: gap.xml, and files of sparse points and of compressions beside it."""

from os import PathLike
from pathlib import Path
from typing import NoReturn

import numpy as np

from jaxmlp.basis.covariance import Covariance
from jaxmlp.basis.gap_clusters import Angle3b, DistanceNb
from jaxmlp.basis.soap import SOAP
from jaxmlp.basis.soap_turbo import SOAPTurbo
from jaxmlp.formats.gap_strings import CENTER_IN_OWN_DENSITY, DEGREES_WEIGHED, Arguments, Descriptor, compression
from jaxmlp.potential import Params, Potential
from jaxmlp.potentials.gap import GAP

LABEL = "GAP_jaxmlp"
_VERSION = 1686220958  # of QUIP 0.9.14, whose files newer codes read; the strings leave no default open
_TYPES = {"ard_se": 1, "dot_product": 2, "pp": 4}


def save(path: str | PathLike, potential: Potential, params: Params) -> None:
    """Write `path`, and beside it `path`.sparseX.GAP_jaxmlp1, ...2 and so on with the sparse points.

    A soap_turbo whose compression has no name needs `path`.compress.GAP_jaxmlp1 and so on too; QUIP looks for these in
    the folder that it runs in.

    Raises:
        ValueError: not a `GAP`, or one that a gap.xml cannot express.
    """
    if not isinstance(potential, GAP):
        raise ValueError(f"gap.xml holds GAP potentials, not a {type(potential).__name__}.")
    path = Path(path)
    old = {not t.descriptor.weigh_degrees for t in potential.processes if isinstance(t.descriptor, SOAP)}
    if len(old) > 1:
        raise ValueError("gap.xml cannot hold SOAP vectors with weigh_degrees and without in one file.")
    turbo = [t.descriptor for t in potential.processes if isinstance(t.descriptor, SOAPTurbo)]
    if any(turbo[0].share_overlaps(d) != d for d in turbo):
        raise ValueError("gap.xml: all soap_turbo must take their radial overlaps from the first, see `gap.load`.")
    version = DEGREES_WEIGHED - 1 if True in old else _VERSION
    if version < CENTER_IN_OWN_DENSITY:
        for t in potential.processes:
            if isinstance(t.descriptor, SOAP) and not t.descriptor.central_reference_all_species:
                raise ValueError("gap.xml: SOAP without weigh_degrees needs central_reference_all_species.")
    e0 = _finite(params["e0"], (len(potential.species),), "e0")
    lines = [
        f"<{LABEL}>",
        f'<Potential label="{LABEL}" init_args="IP GAP label={LABEL}"/>',
        f'<GAP_params label="{LABEL}" gap_version="{version}">',
        '  <GAP_data do_core="F">',
        *(f'    <e0 Z="{z}" value="{value!r}"/>' for z, value in zip(potential.species, e0.tolist(), strict=True)),
        "  </GAP_data>",
        f'  <gpSparse label="{LABEL}" n_coordinate="{len(potential.processes)}">',
    ]
    files: dict[Path, str] = {}
    for k, (term, p) in enumerate(zip(potential.processes, params["processes"], strict=True), 1):
        d, m, covariance = term.descriptor.dimensions, term.n_sparse, term.covariance
        shapes = {"alpha": (m,), "cutoff": (m,), "sparse": (m, d), "delta": (), "f0": ()}
        shapes |= {} if covariance.kind == "dot_product" else {"theta": (d,)}
        a = {name: _finite(p[name], shape, name) for name, shape in shapes.items()}
        rows = covariance.permutations or (tuple(range(d)),)
        name = f"{path.name}.sparseX.{LABEL}{k}"
        files[path.with_name(name)] = "".join(f"{x!r}\n" for x in a["sparse"].ravel().tolist())
        zeta = f' zeta="{covariance.zeta!r}"' if covariance.kind == "dot_product" else ""
        lines.append(
            f'    <gpCoordinates label="{LABEL}{k}" dimensions="{d}" signal_variance="{float(a["delta"])!r}" '
            f'signal_mean="{float(a["f0"])!r}" sparsified="T" n_permutations="{len(rows)}" '
            f'covariance_type="{_TYPES[covariance.kind]}"{zeta} n_sparseX="{m}" sparseX_filename="{name}">'
        )
        if "theta" in a:
            lines.append(f"      <theta>{' '.join(map(repr, a['theta'].tolist()))} </theta>")
        text = written(term.descriptor, term.center, covariance)
        if isinstance(term.descriptor, SOAPTurbo):
            kept = f"{path.name}.compress.{LABEL}{k}"
            mode = _mode(term.descriptor)
            text += f" compress_mode={mode}" if mode else f" compress_file={kept}"
            if not mode:
                files[path.with_name(kept)] = _kept(term.descriptor)
        lines.append(f"      <descriptor>{text}</descriptor>")
        for i, row in enumerate(rows, 1):
            lines.append(f'      <permutation i="{i}">{" ".join(str(q + 1) for q in row)} </permutation>')
        for i, (alpha, cutoff) in enumerate(zip(a["alpha"].tolist(), a["cutoff"].tolist()), 1):
            lines.append(f'      <sparseX i="{i}" alpha="{alpha!r}" sparseCutoff="{cutoff!r}"/>')
        lines.append("    </gpCoordinates>")
    lines += ["  </gpSparse>", "</GAP_params>", f"</{LABEL}>"]
    for file, text in files.items():
        file.write_text(text, encoding="ascii")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _finite(x, shape: tuple[int, ...], name: str) -> np.ndarray:
    array = np.asarray(x, float)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"params of a GAP: {name!r} must be finite and of shape {shape}; got shape {array.shape}.")
    return array


def written(descriptor: Descriptor, center: int, covariance: Covariance) -> str:
    """Return the descriptor string of which `descriptors` makes the same again, but for a compression."""
    fields: dict[str, object] = {}
    if isinstance(descriptor, SOAPTurbo):
        name = "soap_turbo"
        fields = {k: getattr(descriptor, k) for k in ("rcut_hard", "rcut_soft", "l_max", "alpha_max", "atom_sigma_r",
                  "atom_sigma_t", "atom_sigma_r_scaling", "atom_sigma_t_scaling", "amplitude_scaling", "central_weight",
                  "central_index", "nf", "radial_enhancement", "basis")}  # fmt: skip
        fields |= {"n_species": len(descriptor.species), "species_Z": descriptor.species, "scaling_mode": "polynomial"}
    elif isinstance(descriptor, SOAP):
        name = "soap"
        fields = {k: getattr(descriptor, k) for k in ("n_max", "l_max", "cutoff", "cutoff_transition_width",
                  "atom_sigma", "central_weight", "basis_error_exponent", "radial_basis", "normalise",
                  "diagonal_radial", "covariance_sigma0", "central_reference_all_species", "cutoff_dexp",
                  "cutoff_scale", "cutoff_rate")}  # fmt: skip
        fields |= {"n_species": len(descriptor.species), "species_Z": descriptor.species, "Z": center}
    elif isinstance(descriptor, DistanceNb):
        name = "distance_Nb"
        fields = {"order": descriptor.order, "Z": descriptor.elements, "compact_clusters": descriptor.compact_clusters}
    elif isinstance(descriptor, Angle3b):
        name = "angle_3b"
        fields = {"Z_center": descriptor.center, "Z1": descriptor.elements[0], "Z2": descriptor.elements[1]}
    else:
        name = "distance_2b"
        fields = {"Z1": descriptor.elements[0], "Z2": descriptor.elements[1]}
        fields |= {"n_exponents": len(descriptor.exponents), "exponents": descriptor.exponents}
        if descriptor.tail_range is not None:
            fields |= {"tail_range": descriptor.tail_range, "tail_exponent": descriptor.tail_exponent}
    if not isinstance(descriptor, SOAP | SOAPTurbo):
        fields |= {"cutoff": descriptor.cutoff, "cutoff_transition_width": descriptor.cutoff_transition_width}
    fields["covariance_type"] = covariance.kind
    return " ".join([name, *(f"{key}={_value(value)}" for key, value in fields.items())])


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return _value(value[0]) if len(value) == 1 else "{" + " ".join(map(_value, value)) + "}"
    if isinstance(value, bool):
        return "T" if value else "F"
    return repr(value) if isinstance(value, float) else str(value)


def _mode(descriptor: SOAPTurbo) -> str | None:
    """Return the name of a compression, None where it has none."""
    if descriptor.coupling != (2, 2):
        return f"{descriptor.coupling[0]}_{descriptor.coupling[1]}"
    if descriptor.compress is None:
        return "None"
    trivial = Arguments("soap_turbo compress_mode=trivial", _unexpected)
    kept = compression(trivial, descriptor.alpha_max, descriptor.l_max, Path())[1]
    return "trivial" if kept == descriptor.compress else None


def _unexpected(message: str) -> NoReturn:
    raise ValueError(message)


def _kept(descriptor: SOAPTurbo) -> str:
    """Return a compress_file, as `gap_strings` reads it."""
    kept = descriptor.compress or ()
    head = (*descriptor.alpha_max, descriptor.l_max, len(kept))
    return "\n".join([" ".join(map(str, head)), *(str(k + 1) for k in kept)]) + "\n"
