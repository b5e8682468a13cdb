"""What a study is: its rows, seeds and learning rates, and the command of each of its runs."""

import dataclasses
import os

#: The rows of the paper's tables; those of its Figures 3 and 4 are asked for by `--rows`.
TABLES = (
    *("st", "st_nf", "sat", "pgdat", "trades", "fat", "trades_fat", "mbnat", "sat_in", "nofrost", "fastat", "freeat"),
)
SELECTION, FINAL = "selection", "final"
SELECTION_SEED = 0


@dataclasses.dataclass(frozen=True)
class Study:
    """A study's own settings; the command line may change rows, seeds and rates.

    config: file below the repository's root. holdout: training images that learning rates are chosen on. source: the
    config's data source.
    """

    config: str
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    holdout: int
    source: str


STUDIES = {
    "digits": Study(
        config="configs/digits.py",
        rows=TABLES,
        seeds=(0, 1, 2),
        rates=(0.1, 0.3, 1.0),
        holdout=237,  # leaves 1,200; 16 to 30 of each class
        source="digits",
    ),
    "cifar10": Study(
        config="configs/cifar10.py",
        rows=("sat", "mbnat", "sat_in", "nofrost"),
        seeds=(0,),
        rates=(0.1,),
        holdout=5000,
        source="tfds:cifar10",
    ),
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one command asks for. workdir: absolute path. source: "" = the config's. settings: {field: text}. shift:
    whether corrupted images are looked at too."""

    name: str
    study: Study
    workdir: str
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    source: str = ""
    settings: dict = dataclasses.field(default_factory=dict, hash=False)
    shift: bool = False


@dataclasses.dataclass(frozen=True)
class Run:
    """One training with its evaluation: a row on a seed with a learning rate."""

    stage: str
    row: str
    seed: int
    rate: float

    @property
    def folder(self):
        """Below the study's folder."""
        if self.stage == SELECTION:
            return f"select/{self.row}/rate_{self.rate:g}"
        return f"runs/{self.row}/rate_{self.rate:g}/seed_{self.seed}"


def selection_runs(plan):
    """Every row with every rate; none where there is a single rate."""
    if len(plan.rates) == 1:
        return []
    return [Run(SELECTION, row, SELECTION_SEED, rate) for row in plan.rows for rate in plan.rates]


def final_runs(plan, chosen):
    """Every row that has a chosen rate, on every seed."""
    return [Run(FINAL, row, seed, chosen[row]) for row in plan.rows if row in chosen for seed in plan.seeds]


def rule(plan):
    """How a rate is chosen, in words."""
    where = f"on {plan.study.holdout:,} training images held out for it, at seed {SELECTION_SEED}"
    return f"greatest mean of clean and PGD-20 accuracy {where}, the smaller rate where two are equal"


def shift_arguments(plan, run):
    """The arguments of main.py that evaluate a trained run on corruptions of its evaluation images."""
    workdir = os.path.join(plan.workdir, run.folder)
    return [
        "--mode=evaluate",
        "--config=configs/eval/shift.py",
        "--config.corruptions=on_the_fly",
        "--force",  # a result of parameters from before gets another name
        f"--workdir={workdir}",
    ]


def arguments(plan, run):
    """The arguments of main.py for a run."""
    fields = dict(plan.settings)
    if plan.source:
        fields["data.source"] = plan.source
    selecting, count = run.stage == SELECTION, plan.study.holdout
    has_slices = (plan.source or plan.study.source).startswith("tfds:")  # in place of `data.holdout`
    held = count if selecting and not has_slices else 0
    fields |= {"seed": run.seed, "optimizer.learning_rate": run.rate, "data.holdout": held}
    if selecting:
        fields |= {"evaluation.only": "pgd_20", "evaluation.every_epochs": 0, "data.eval_split": "holdout"}
        if has_slices:
            fields |= {"data.train_split": f"train[:-{count}]", "data.eval_split": f"train[-{count}:]"}
    workdir = os.path.join(plan.workdir, run.folder)
    given = [f"--config.{field}={value}" for field, value in fields.items()]
    return [f"--config={plan.study.config}:{run.row}", f"--workdir={workdir}", *given]
