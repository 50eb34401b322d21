"""The examples run on any number of ranks, say the same there, and fail where something is wrong."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from jobs import job

import minisplit as ms

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.serial, pytest.mark.jobs, pytest.mark.examples]

# What an example must say, and the picture that it makes, if any.
SAYS = {
    "denoise": (
        [
            "4108 windows of 16 x 16 pixels, the patches of each a matrix of 27 x 196",
            "gained at least 7.5 dB: yes",
            "equals torch.vmap in one process within 1e-10: yes",
        ],
        "denoised.png",
    ),
    "diffusion": (
        [
            "of 48 pairs of rates 2 leave nothing of v, 46 have patterns",
            "in the end there is what was fed, less what was removed, within 1e-03: yes",
            "a wave that only diffuses decays as the exact one, within 1e-03: yes",
            "one pair of rates alone, its grid cut over the ranks, is the same, within 1e-03: yes",
        ],
        "diffusion.png",
    ),
    "digits": (["input  shape", "largest difference from torch.vmap in one process: "], "strangest-digits.png"),
    "ensemble": (
        [
            "of 443 digits they tell 98.0% to 98.9% right, together 98.4%",
            "in 96.2% of pairs they doubt an 8 or 9 more than a digit that they know",
            "at least 95% right, and 90% of pairs: yes",
            "the last one, trained alone by torch, is the same within 1e-06: yes",
        ],
        "ensemble.png",
    ),
    "heat": (
        [
            "after 391 s the middle is at 72.6 degrees: 200 explicit steps, 11 implicit ones",
            "explicit steps are those of NumPy, within 1e-10: yes",
            "implicit steps are exact within 1.0 degrees: yes",
        ],
        None,
    ),
    "influence": (
        [
            "  185      5   4           -0.00442",
            "54 of 60 wrong labels are among the 60 most harmful (at least 80% must be)",
            "correlation with training 120 times again: 0.99",
        ],
        "influence.png",
    ),
    "kernel": (
        [
            "two standard deviations hold 97.0% of the others, and grow 21.3-fold in the gap",
            "90% to 99%, and at least 5-fold: yes",
            "the same by the precision of the weights, within 1e-06: yes",
        ],
        "kernel.png",
    ),
    "maml": (
        [
            "4.540 from a random start, 0.331 from one that was trained for it",
            "an error of at most 0.4: yes",
            "the gradient is that of differences within 1e-06: yes",
        ],
        "maml.png",
    ),
    "pendulum": (
        [
            "15316 of 38400 swing, 23084 turn over; some of them:",
            "largest relative error of a period: 5.8e-05 (allowed: 1e-04)",
        ],
        "pendulum.png",
    ),
    "posterior": (
        [
            "2000 chains of 100 draws; R-hat: 0.9971 and 1.0008 (below 1.01)",
            "damage at 31 °F     0.98756 +- 0.00014      0.98745",
            "mixed, and within 4 standard errors of the quadrature: yes",
        ],
        "posterior.png",
    ),
    "private": (
        [
            "40 steps with noise 8 are (4.11, 1e-05)-private",
            "of 597 other digits 87.3% are told right",
            "at least 85% right: yes",
            "no digit moves a sum by more than 1: yes",
            "equals torch.vmap in one process within 1e-12: yes",
        ],
        "private.png",
    ),
    "registration": (
        [
            "PSNR of one photograph: 16.5 dB",
            "gained at least 12 dB: yes",
            "all motions are right within 0.3 pixels: yes",
        ],
        "registration.png",
    ),
    "repair": (
        [
            "digit 7 failed on rank 0: blocks [15] are white in all its images",
            "all 10 factored, once the covariances of [3, 6, 7] were repaired",
            "equals torch in one process within 1e-10: yes",
        ],
        "repaired.png",
    ),
    "sweep": (
        [
            "192 networks of 1810 parameters, of which the best",
            "the best tells at least 95% right: yes",
            "trained alone by torch it is the same within 1e-03: yes",
        ],
        "sweep.png",
    ),
}


def printed(ranks, name):
    """What the example prints as a job of that many ranks. It must end well."""
    done = job(ranks, f"examples/{name}.py", limit=100)
    assert done.status == 0, done
    return done.out


def without_ranks(text):
    """What does not depend on the number of ranks: no lines with counts, no plan, no rounding errors."""
    text = re.sub(r"vmap of .*collective calls?;", "", text, flags=re.DOTALL)
    text = re.sub(r"(on rank) \d+|(largest difference .*process:) \S+", r"\1\2", text)
    return [line for line in text.splitlines() if "on each rank:" not in line]


# Of these sizes they take no time.
SMALL = {
    "denoise": {"SIZE": (104, 160)},
    "diffusion": {"CELLS": 16, "STEPS": 300},
    "digits": {"STEPS": 20},
    "ensemble": {"NETWORKS": 5, "STEPS": 30, "APART": 0.8},
    "influence": {"TRAINING": 600, "WRONG": 30, "CORRELATION": 0.98, "FOUND": 0.7},
    "kernel": {"STEPS": 30},
    "maml": {"STEPS": 20, "ENOUGH": 3.5},
    "monte_carlo": {"RESAMPLES": 200, "BATCHES": 100},
    "pendulum": {"ANGLES": 24, "SPEEDS": 16},
    "posterior": {"CHAINS": 400, "DRAWS": 40, "MIXED": 1.02},
    "private": {"STEPS": 10, "RIGHT": 0.3},
    "registration": {"FRAMES": 24, "GAIN": 9.0, "ERROR": 0.4},
    "sweep": {"RATES": torch.tensor([0.3, 1.0]), "DECAYS": torch.tensor([1e-4, 1e-3])},
}


@pytest.fixture
def example(monkeypatch):
    """The module of an example, which draws nothing."""
    monkeypatch.syspath_prepend(ROOT / "examples")

    def example(name, settings):
        module = importlib.import_module(name)
        monkeypatch.setattr(module, "draw", lambda *_: None, raising=False)
        for setting, value in settings.items():
            monkeypatch.setattr(module, setting, value)
        return module

    yield example
    for name in {*SAYS, "monte_carlo"}:
        sys.modules.pop(name, None)


def status(module, ranks=2):
    """The exit status of a job that runs this example, here on threads."""
    return max(ms.testing.run(module.main, ranks=ranks))


def test_every_example_is_tested():
    # monte_carlo is run in test_jobs.py, where its output is the same to the last character.
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(SAYS) | {"monte_carlo"}


# With a further MPI those that move and save.
OF_MPI = {"private", "repair"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.mpi] * (name in OF_MPI)) for name in SAYS])
def test_it_says_what_it_must_and_leaves_its_picture(name):
    """As a job of two, in full size; the lines are those of one rank."""
    lines, picture = SAYS[name]
    path = ROOT / "examples" / "out" / (picture or "none")
    path.unlink(missing_ok=True)
    said = re.sub(r"on rank \d+", "on rank 0", printed(2, name))
    for line in lines:
        assert line in said
    assert len(re.search(r"on each rank: \((.*?)\)", said)[1].split(",")) == 2
    assert picture is None or path.stat().st_size > 10_000


@pytest.mark.parametrize("name", SAYS)
def test_it_says_the_same_on_any_number_of_ranks(name, example, capsys):
    module, said = example(name, SMALL.get(name, {})), []
    for ranks in (1, 3):
        assert status(module, ranks) == 0
        said.append(without_ranks(capsys.readouterr().out))
    assert said[0] == said[1]


# Chains, waves and the points of a kernel in another order are as good.
@pytest.mark.parametrize("name", sorted(SAYS.keys() - {"kernel", "maml", "posterior"}))
def test_it_fails_where_samples_come_in_another_order(name, example, monkeypatch):
    module, numpy, tensor = example(name, SMALL.get(name, {})), ms.DNDarray.numpy, ms.DNDarray.torch
    monkeypatch.setattr(ms.DNDarray, "numpy", lambda x: np.roll(numpy(x), 1, x.split))
    monkeypatch.setattr(ms.DNDarray, "torch", lambda x: torch.roll(tensor(x), 1, x.split))
    assert status(module) == 1


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("denoise", {"CUT": 0.0}),  # leaves the noise
        ("denoise", {"TOLERANCE": -1.0}),
        ("diffusion", {"TOLERANCE": -1.0}),
        ("diffusion", {"DIFFUSION": torch.tensor([0.6, 0.3]).view(2, 1, 1)}),  # steps that are too long
        ("digits", {"TOLERANCE": -1.0}),
        ("ensemble", {"APART": 1.0}),
        ("ensemble", {"RIGHT": 1.0}),
        ("ensemble", {"TOLERANCE": -1.0}),
        ("heat", {"SHORT": 6.0}),  # grows without bound
        ("heat", {"TOLERANCE": -1.0}),
        ("influence", {"CORRELATION": 1.0}),
        ("influence", {"FOUND": 1.0}),
        ("influence", {"STEPS": 2}),  # has not learned yet
        ("kernel", {"MOST": 0.9}),
        ("kernel", {"STEPS": 0}),  # has not learned yet
        ("kernel", {"WIDER": 50.0}),
        ("kernel", {"TOLERANCE": -1.0}),
        ("maml", {"STEPS": 0}),
        ("maml", {"STEP": 0.1}),  # is too long for a difference
        ("monte_carlo", {"black_scholes": lambda: 8.0}),
        ("pendulum", {"STEP": 0.08}),  # is coarse
        ("pendulum", {"STEPS": 50}),  # too few for most to come through the bottom
        ("posterior", {"WARMING": 0, "DRAWS": 10}),  # still on the way
        ("posterior", {"STEP": 0.01}),  # hardly moves
        ("private", {"CLIP": 1e-3}),  # hardly moves
        ("private", {"EPSILON": 0.1}),
        ("private", {"TOLERANCE": -1.0}),
        ("registration", {"STEPS": 0}),  # to whole pixels, and without angles
        ("registration", {"GAIN": 20.0}),
        ("repair", {"RIGHT": 0.9}),
        ("repair", {"TOLERANCE": -1.0}),
        ("sweep", {"RIGHT": 0.99}),
        ("sweep", {"TOLERANCE": -1.0}),
    ],
)
def test_it_fails_where_a_check_does(name, settings, example):
    assert status(example(name, SMALL.get(name, {}) | settings)) == 1


def test_repairing_ends_where_nothing_helps(example):
    with pytest.raises(torch.linalg.LinAlgError, match="mapping sample 3 of 10"):
        status(example("repair", {"SHRINKAGE": 0.0}))
