"""Put fits of `accuracy.py` among the potentials that come with jaxmlp: file, configuration, card.

    python benchmarks/ship_models.py FITS [--rows accuracy.json] [--costs] [family ...]

FITS holds folders Si_<family>, as `accuracy.py` writes them. What the card says is computed here from the file as it
will be read, on the structures of shared/data, and compared with the report of the fit; the cost of an atom is taken
from the rows of `accuracy.py`; --costs puts that into cards that are there, and does nothing else.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from common import pin

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data"
FAMILIES = ("nep", "mtp", "ace", "snap", "bpnn", "dp", "gap", "painn", "mace")
NAMES = {
    "nep": "neuroevolution potential (NEP4)", "mtp": "moment tensor potential (MTP)",
    "ace": "atomic cluster expansion (ACE)", "snap": "spectral neighbor analysis potential (SNAP)",
    "bpnn": "Behler-Parrinello network", "dp": "Deep Potential (se_e2_a)",
    "gap": "Gaussian approximation potential (GAP, SOAP)", "painn": "PaiNN", "mace": "MACE",
}  # fmt: skip
SOURCE = {
    "name": "mlearn Si",
    "url": "https://github.com/materialsvirtuallab/mlearn, data/Si",
    "license": "BSD-3-Clause",
    "cite": "Y. Zuo et al., J. Phys. Chem. A 124, 731 (2020), doi:10.1021/acs.jpca.9b08723",
    "method": "VASP, PBE",
}
# Diamond silicon: a and C11, C12 by stress against strain in the data themselves, C44 (CASTEP, PW91) from Bartók et
# al., PRX 8, 041048 (2018); Å and GPa.
REFERENCE = {"a": 5.469, "C11": 154, "C12": 57, "C44": 72}
WITHOUT_VIRIALS = {"stress": "left out", "virial": "left out"}  # options of `read_structures`


def configurations(folder: Path, element: str, family: str) -> list[dict]:
    """The configurations of the fits that followed one another, without what are defaults; the last is the folder's.

    Raises:
        ValueError: the recipe of `accuracy.py` is no longer that of the fit.
    """
    from accuracy import recipe

    from jaxmlp.fitting import read_config

    used = json.loads((folder / "config.json").read_text())
    steps = recipe(element, family)
    last = json.loads(json.dumps(steps[-1]))
    steps[-1] = {"potential": used["potential"]} | last
    defaults = json.loads(json.dumps(asdict(read_config({"potential": used["potential"]}))))
    told = {k: v for k, v in used.items() if k not in ("data", "output", "resume") and v != defaults[k]}
    wanted = json.loads(json.dumps(asdict(read_config(steps[-1]))))
    other = [k for k in used if k not in ("data", "output", "resume") and used[k] != wanted[k]]
    if other and len(steps) > 1:
        raise ValueError(f"{folder}: accuracy.py has another recipe by now, in {', '.join(other)}: fit again.")
    for k, step in enumerate(steps[:-1]):
        steps[k] = json.loads(json.dumps(step))
    return [*steps[:-1], {"potential": used["potential"]} | told]


def learned(config: dict, virials: bool) -> str:
    """What labels a fit used, of structures with or without virials."""
    method, weights = config.get("method", "gradient"), config.get("linear", {}).get("weights")
    if method == "linear":
        virials &= weights is None or weights.get("virial", 0) > 0
    elif method != "gpr":
        virials &= config.get("loss", {}).get("virial", 0) != 0
    return "energies, forces and virials" if virials else "energies and forces"


def yaml_of(config: dict, head: str, virials: bool) -> str:
    import yaml

    data = {"train": "train.xyz.gz", "test": "test.xyz.gz"} | ({} if virials else {"read": WITHOUT_VIRIALS})
    body = yaml.safe_dump({"data": data} | config, sort_keys=False, default_flow_style=None, width=110)
    return f"# {head}\n# train.xyz.gz, test.xyz.gz: {SOURCE['url']}, as extended XYZ.\n{body}"


def structures(name: str):
    from jaxmlp.fitting import read_structures

    return read_structures(DATA / "mlearn_Si" / f"{name}.xyz.gz")


def small_cell():
    """Eight atoms of diamond silicon off their sites, in a strained cell."""
    import numpy as np
    from ase.build import bulk

    atoms = bulk("Si", a=5.47, cubic=True)
    rng = np.random.default_rng(14)
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.01 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += 0.1 * rng.normal(size=(8, 3))
    return np.round(atoms.positions, 4), np.round(atoms.cell.array, 4)


def crystal(potential, params) -> dict:
    """Lattice constant (Å), energy (eV/atom) and elastic constants (GPa) of diamond silicon."""
    import jax
    import numpy as np
    from ase.build import bulk

    import jaxmlp as jm

    start = jm.System.from_ase(bulk("Si", a=5.47))
    minimum = jm.minimize(potential, params, start, cell=True, fmax=1e-6, smax=1e-8)
    cell = minimum.system
    elastic = jax.jit(jm.elastic_constants(jm.energy_fn(potential, cell)))
    C = np.asarray(elastic(cell.R, cell.box, params)) / jm.units.GPa
    found = {"a": (4 * cell.volume) ** (1 / 3), "energy": minimum.energy / 2}
    found |= {"C11": C[0, 0], "C12": C[0, 1], "C44": C[3, 3]}
    return {name: round(float(x), 4) for name, x in found.items()}


def ship(fits: Path, family: str, rows: list[dict], target: Path) -> dict:
    """Write the folder of one family and return the numbers of its card."""
    import jax
    import numpy as np

    import jaxmlp as jm
    from jaxmlp.fitting import predict_structures
    from jaxmlp.fitting.report import final_report

    source, folder = fits / f"Si_{family}", target / "silicon" / family
    potential, params = jm.load(source / "potential.safetensors")
    sets = {name: structures(name) for name in ("train", "test")}
    report = final_report({n: (s, predict_structures(potential, params, s)) for n, s in sets.items()}).data
    then = json.loads((source / "report.json").read_text())
    for name in sets:
        for kind in ("energy", "forces"):
            pair = (r["sets"][name]["all"][kind]["rmse"] for r in (report, then))
            np.testing.assert_allclose(*pair, rtol=1e-4, err_msg=f"{family}: {kind} of {name}, now and in report.json")

    R, box = small_cell()
    system = jm.System(np.full(8, 14), R, box)
    energy, gradient = jax.value_and_grad(jm.energy_fn(potential, system))(R, box, params)
    row = row_of(rows, family)
    configs = configurations(source, "Si", family)
    virials = "virial" in then["sets"]["train"]["all"]  # in the structures that the fit was given
    sizes = {n: {"structures": len(s), "atoms": sum(map(len, s))} for n, s in sets.items()}
    numbers = {
        "name": f"silicon/{family}",
        "family": family,
        "elements": ["Si"],
        "cutoff": potential.cutoff,
        "parameters": int(sum(np.size(x) for x in jax.tree.leaves(params))),
        "seconds": row.get("seconds"),
        "microseconds": row.get("microseconds"),
        "data": SOURCE | {"labels": learned(configs[-1], virials)} | sizes,
        "units": {kind: report["units"][kind] for kind in ("energy", "forces")},
        "errors": {n: {"all": d["all"]} | d["groups"] for n, d in report["sets"].items()},
        "crystal": crystal(potential, params),
        "check": {"positions": R.tolist(), "box": box.tolist()},
    }
    numbers["check"] |= {"energy": float(energy), "forces": (-gradient).tolist()}
    folder.mkdir(parents=True, exist_ok=True)
    jm.save(folder / "potential.safetensors", potential, params)
    for old in folder.glob("*.yaml"):
        old.unlink()
    head = f"The fit of silicon/{family}: jaxmlp fit config.yaml"
    if len(configs) == 2:
        first = f"The first step of the fit of silicon/{family}: jaxmlp fit start.yaml -o start"
        (folder / "start.yaml").write_text(yaml_of(configs[0], first, virials))
        configs[1]["potential"] = {"file": "start/potential.safetensors"}
        head += ", after start.yaml"
    (folder / "config.yaml").write_text(yaml_of(configs[-1], head, virials))
    write_card(folder, numbers)
    return numbers


def row_of(rows: list[dict], family: str) -> dict:
    return next((r for r in rows if (r["element"], r["family"]) == ("Si", family)), {})


def write_card(folder: Path, numbers: dict) -> None:
    (folder / "card.json").write_text(json.dumps(numbers, indent=1) + "\n")
    (folder / "card.md").write_text(card(numbers, 1 + (folder / "start.yaml").exists()))


CARD = """# {name}

A {kind} for silicon, fitted by jaxmlp; {parameters} numbers, cutoff {cutoff:g} Å.

```python
potential, params = jm.load("{name}")
```

On the command line the name stands for a file: `jaxmlp md {name} si.cif`. Configuration of the fit: {configurations}.

## Data

{data[name]} ({data[url]}), {data[method]}, {data[license]}. Cite {data[cite]}.
Trained on {data[labels]} of {data[train][structures]} structures ({data[train][atoms]} atoms), tested on
{data[test][structures]} others ({data[test][atoms]} atoms); the split is the source's.

## Errors

| | energy, RMSE / MAE (meV/atom) | forces, RMSE / MAE (meV/Å) |
|---|---|---|
{rows}

## Diamond silicon

| | a (Å) | C11 (GPa) | C12 | C44 |
|---|---|---|---|---|
{crystals}

DFT: a, C11 and C12 from stresses in the data; C44 of Bartók et al., Phys. Rev. X 8, 041048 (2018).

## Cost

{cost}

## Not for

- Elements other than silicon, charges, spins, electronic temperature.
- Other crystal structures, high pressure, interstitials, dislocations, cracks: the training set holds the diamond
  crystal (strained by up to 10 %, at 300 to 3374 K), a vacancy at 300 and 3374 K, and 12 surfaces.
- Collisions: no repulsion at short distances was added, and below the shortest distances in the data energies mean
  nothing.
- Production: this is a small model of a small set, to learn, test and compare with.

Licence: that of jaxmlp; of the data see above.
"""


def card(n: dict, steps: int) -> str:
    """The card as Markdown."""
    errors = lambda e: " | ".join(f"{e[kind]['rmse']:.3g} / {e[kind]['mae']:.3g}" for kind in ("energy", "forces"))
    rows = [f"| {name}, {group} | {errors(e)} |" for name, groups in n["errors"].items() for group, e in groups.items()]
    crystals = [
        f"| {name} | {x['a']:.3f} | {x['C11']:.0f} | {x['C12']:.0f} | {x['C44']:.0f} |"
        for name, x in (("this potential", n["crystal"]), ("DFT", REFERENCE))
    ]
    cost = "Not measured."
    if n["microseconds"] is not None:
        cost = (
            f"{n['microseconds']:.1f} µs for an atom: energy, forces and virial in double precision, on one core of\n"
            "the machine of `benchmarks/ACCURACY.md`."
        )
    configurations = "`config.yaml`" if steps == 1 else "`start.yaml`, then `config.yaml`"
    words = {"kind": NAMES[n["family"]], "rows": "\n".join(rows), "crystals": "\n".join(crystals)}
    return CARD.format(**n, **words, cost=cost, configurations=configurations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fits", type=Path)
    parser.add_argument("families", nargs="*", default=[])
    parser.add_argument("--costs", action="store_true")
    parser.add_argument("--rows", type=Path, default=HERE / "accuracy.json")
    options = parser.parse_args()
    pin()
    import jax

    jax.config.update("jax_enable_x64", True)
    from jaxmlp.shipped import FOLDER

    rows = json.loads(options.rows.read_text()) if options.rows.exists() else []
    for family in options.families or FAMILIES:
        if options.costs:
            folder = FOLDER / "silicon" / family
            costs = {k: row_of(rows, family).get(k) for k in ("seconds", "microseconds")}
            write_card(folder, json.loads((folder / "card.json").read_text()) | costs)
            continue
        if not (options.fits / f"Si_{family}" / "report.json").exists():
            print(f"silicon/{family}: no fit in {options.fits}")
            continue
        n = ship(options.fits, family, rows, FOLDER)
        test = n["errors"]["test"]["all"]
        size = sum(p.stat().st_size for p in (FOLDER / n["name"]).iterdir())
        print(f"{n['name']}: {size / 1e3:.0f} kB, test {test['energy']['rmse']:.2f} meV/atom, "
              f"{test['forces']['rmse']:.0f} meV/Å, {n['crystal']}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
