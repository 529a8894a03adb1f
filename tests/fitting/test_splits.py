"""Parts are disjoint, of the sizes asked for, and the same for any order of the input."""

from collections import Counter

import numpy as np
import pytest

from jaxmlp.fitting.data.splits import kfold, split
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.system import System


@pytest.fixture(scope="module")
def structures():
    rng = np.random.default_rng(0)
    groups = ["liquid"] * 60 + ["crystal"] * 30 + ["surface"] * 10
    return [
        Structure(System(np.array([1, 8]), rng.normal(size=(2, 3))), float(k), group=group, source=str(k))
        for k, group in enumerate(groups)
    ]


def names(part):
    return [s.source for s in part]


@pytest.mark.parametrize("stratify", [None, "group"])
@pytest.mark.parametrize(
    ("sizes", "counts"), [((0.7, 0.2, 0.1), (70, 20, 10)), ((0.333, 0.5), (33, 50)), ((50, 7), (50, 7))]
)
def test_sizes_and_independence_of_the_order(structures, sizes, counts, stratify):
    parts = split(structures, sizes, seed=3, stratify=stratify)
    assert tuple(map(len, parts)) == counts
    everything = [name for part in parts for name in names(part)]
    assert len(set(everything)) == len(everything)
    for part in parts:
        assert names(part) == sorted(names(part), key=int)  # in the order of the input
    shuffled = [structures[k] for k in np.random.default_rng(1).permutation(100)]
    for part, other in zip(parts, split(shuffled, sizes, seed=3, stratify=stratify), strict=True):
        assert set(names(part)) == set(names(other))
    assert names(parts[0]) != names(split(structures, sizes, seed=4, stratify=stratify)[0])


def test_known_split(structures):
    """The hash must not change between versions, or test structures of old models become training structures."""
    assert names(split(structures, (5,), seed=0)[0]) == KNOWN


KNOWN = ["26", "31", "37", "88", "95"]


def test_strata_in_proportion(structures):
    train, test = split(structures, (0.8, 0.2), stratify="group")
    assert Counter(s.group for s in train) == {"liquid": 48, "crystal": 24, "surface": 8}
    assert Counter(s.group for s in test) == {"liquid": 12, "crystal": 6, "surface": 2}


def test_folds(structures):
    folds = kfold(structures, 7, seed=1)
    assert sorted(len(validation) for _, validation in folds) == [14] * 5 + [15] * 2
    assert sorted(int(n) for _, validation in folds for n in names(validation)) == list(range(100))
    for training, validation in folds:
        assert not set(names(training)) & set(names(validation))
        assert len(training) + len(validation) == 100


def test_bad_sizes(structures):
    with pytest.raises(ValueError, match=r"fractions of a split must sum up to 1 or less"):
        split(structures, (0.8, 0.3))
    with pytest.raises(ValueError, match=r"needs 101 structures; there are 100"):
        split(structures, (100, 1))
    with pytest.raises(ValueError, match=r"fractions or counts, none negative"):
        split(structures, (-0.1, 0.5))
    with pytest.raises(ValueError, match=r'stratify must be "group" or None'):
        split(structures, (0.5,), stratify="element")
    with pytest.raises(ValueError, match=r"k must be between 2 and the number of structures, 100; got 1"):
        kfold(structures, 1)
