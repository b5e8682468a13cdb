"""What the paper's tables and figures are made of: which nets, evaluated how. Plain data, for `tools.reproduce`, which
makes what is missing, and for the report, which shows what is there."""

import dataclasses
from collections.abc import Mapping
from typing import Any

#: The rows of configs/methods.py under the paper's names, in the order of its tables.
METHODS = {
    "st": "ST",
    "st_nf": "ST (NF)",
    "sat": "SAT",
    "pgdat": "PGDAT",
    "trades": "TRADES",
    "fat": "FAT",
    "trades_fat": "TRADES-FAT",
    "mbnat": "MBNAT",
    "sat_in": "SAT (IN)",
    "nofrost": "NoFrost",
    "fastat": "FastAT",
    "freeat": "FreeAT",
    "deepaugment": "DeepAugment",
    "tda": "TDA",
    "combine": "Combine",
    "nofrost_star": "NoFrost*",
}
PROTOCOLS = ("aa_fast_20", "aa_standard")  # always shown, run or not: the first flatters, the second is the field's
GAMMAS = tuple(tenths / 10 for tenths in range(11))  # of configs/eval/mbn_gamma.py


@dataclasses.dataclass(frozen=True)
class Net:
    """A net to train: a row of configs/methods.py at a depth. settings: (field, value) pairs that differ from its
    config; variant: their short name, part of the run's folder."""

    row: str
    depth: int
    variant: str = ""
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def epsilon_255(self) -> float | None:
        """The radius of its training in pixel values; None: that of its config."""
        return dict(self.settings).get("attack.epsilon_255")


@dataclasses.dataclass(frozen=True)
class Suite:
    """An evaluation: configs/eval/CONFIG.py[:ARGUMENT]. name: of its result. only: attacks of it; (): all. gammas:
    weights of the adversarial branch; then the results are NAME_gamma_WEIGHT. settings: (field, value) pairs."""

    config: str
    name: str
    only: tuple[str, ...] = ()
    gammas: tuple[float, ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def results(self) -> tuple[str, ...]:
        """The names of its results."""
        return tuple(f"{self.name}_gamma_{gamma:g}" for gamma in self.gammas) or (self.name,)


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table. key: "clean", an attack, with {epsilon} for the radius of the net's training in pixel
    values, "properties.NAME" or "shift.SET"."""

    title: str
    key: str


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """A table or figure of the paper. suites: (net, suite) pairs; columns: of a table; seeds: of each net."""

    name: str
    title: str
    suites: tuple[tuple[Net, Suite], ...]
    columns: tuple[Column, ...] = ()
    seeds: tuple[int, ...] = (0,)

    @property
    def nets(self) -> tuple[Net, ...]:
        """Its nets, each once."""
        return tuple(dict.fromkeys(net for net, _ in self.suites))


def _nets(depth: int, *rows: str) -> tuple[Net, ...]:
    return tuple(Net(row, depth) for row in rows)


def _at(row: str, epsilon_255: int) -> Net:
    return Net(row, 50, f"eps{epsilon_255}", (("attack.epsilon_255", float(epsilon_255)),))


def _columns(**titles: str) -> tuple[Column, ...]:
    return tuple(Column(title, key) for key, title in titles.items())


def _both(*nets: Net, suites: tuple[Suite, ...]) -> tuple[tuple[Net, Suite], ...]:
    return tuple((net, suite) for net in nets for suite in suites)


def _some(name: str, *attacks: str) -> Suite:
    return Suite("paper", name, (*attacks, *PROTOCOLS))


_AA = {"aa_fast_20": "AA (fast, 20 steps)", "aa_standard": "AA (standard)"}
_PAPER = Suite("paper", "paper")
_PROPERTIES, _BRANCHES = Suite("properties", "properties"), Suite("properties:mbn", "properties", gammas=(0.0, 1.0))
_SWEEP = Suite("epsilon_sweep", "epsilon_sweep")
_SHIFT = Suite("shift", "shift", settings=(("imagenet_c_crop", "nofrost"),))
_MIXED = tuple(
    Suite(f"mbn_gamma:{name}", f"mbn_{name}", gammas=GAMMAS) for name in ("logits", "all", "random_25", "random_50")
)
_COMPARED = ("st", "sat", "trades", "fat", "trades_fat", "nofrost")
_AUGMENTED = ("st", "sat", "deepaugment", "tda", "combine", "nofrost_star")
_ATTACKS = _columns(
    clean="Clean",
    pgd_20="PGD",
    apgd_ce_20="APGD-CE",
    apgd_dlr_20="APGD-DLR",
    mia_20="MIA",
    cw_20="CW",
    rays_400="RayS",
    square_400="Square",
    **_AA,
)
_NORMS = (*_nets(26, "sat", "mbnat", "nofrost"),)
_MEASURED = tuple((net, _BRANCHES if net.row == "mbnat" else _PROPERTIES) for net in _NORMS)


def _against_mbnat(depth: int) -> tuple[tuple[Net, Suite], ...]:
    return ((Net("mbnat", depth), _MIXED[0]), (Net("nofrost", depth), _PAPER))


def _comprehensive(depth: int, name: str) -> tuple[tuple[Net, Suite], ...]:
    return _both(*_nets(depth, *_AUGMENTED), suites=(_some(name, "pgd_20", "square_400"), _SHIFT))


EXHIBITS = {
    one.name: one
    for one in (
        Exhibit(
            "table1",
            "Adversarial robustness of ResNet26",
            _both(*_nets(26, *_COMPARED), suites=(_PAPER,)),
            _ATTACKS,
        ),
        Exhibit(
            "table2",
            "Adversarial robustness of ResNet50",
            _both(*_nets(50, *_COMPARED), suites=(_PAPER,)),
            _ATTACKS,
        ),
        Exhibit(
            "table3",
            "Instance norm in place of batch norm",
            _both(*_nets(26, "sat", "sat_in", "nofrost"), suites=(_some("table3", "pgd_20"),)),
            _columns(clean="Clean", pgd_20="PGD", **_AA),
        ),
        Exhibit(
            "table4",
            "NoFrost with three random seeds",
            _both(Net("nofrost", 26), suites=(_some("table4", "pgd_20", "apgd_ce_20", "apgd_dlr_20"),)),
            _columns(clean="Clean", pgd_20="PGD", apgd_ce_20="APGD-CE", apgd_dlr_20="APGD-DLR", **_AA),
            seeds=(0, 1, 2),
        ),
        Exhibit(
            "table5",
            "Decision margin, boundary thickness and model smoothness",
            _MEASURED,
            (
                Column("Decision margin", "properties.margin"),
                Column("Boundary thickness", "properties.thickness"),
                Column("Model smoothness", "properties.smoothness"),
            ),
        ),
        Exhibit(
            "table6",
            "Normalizer-free nets without adversarial training are not robust",
            _both(*_nets(50, "st", "st_nf", "nofrost"), suites=(_some("table6", "pgd_20", "apgd_ce_20"),)),
            _columns(clean="Clean", pgd_20="PGD", apgd_ce_20="APGD-CE", **_AA),
        ),
        Exhibit(
            "table7",
            "Training and evaluation at radii of 2 and 4 pixel values",
            _both(
                *(_at(row, radius) for radius in (2, 4) for row in ("fastat", "freeat", "nofrost")),
                suites=(Suite("small_epsilon", "small_epsilon"), _some("table7")),
            ),
            (
                Column("Clean", "clean"),
                Column("PGD-10", "pgd_10_eps_{epsilon}"),
                Column("PGD-50", "pgd_50_eps_{epsilon}"),
                *_columns(**_AA),
            ),
        ),
        Exhibit(
            "figure1",
            "Batch norm's statistics after standard and adversarial training",
            _both(
                Net("st", 26),
                Net("pgdat", 26),
                Net("pgdat", 26, "clean_forward", (("method.pgdat_clean_forward", True),)),
                suites=(_PROPERTIES,),
            ),
        ),
        Exhibit(
            "figure2",
            "Trade-off between accuracy and robustness, NoFrost against MBNAT",
            (*_against_mbnat(26), *_against_mbnat(50)),
        ),
        Exhibit("figure3", "Comprehensive robustness of ResNet26", _comprehensive(26, "figure3")),
        Exhibit("figure4", "Comprehensive robustness of ResNet50", _comprehensive(50, "figure4")),
        Exhibit(
            "figure5",
            "Interpolation between the two norms of MBNAT",
            _both(Net("mbnat", 26), suites=_MIXED),
        ),
        Exhibit(
            "figure6",
            "Histograms of decision margin, boundary thickness and model smoothness",
            _MEASURED,
        ),
        Exhibit(
            "figure7",
            "Targeted PGD at larger radii",
            _both(*_nets(26, *_COMPARED), suites=(_SWEEP,)),
        ),
    )
}

_ROWS = {  # norm ("nf": none), method, Equation 1's lambda or the images of `augmented`
    ("nf", "at", 0.5): "nofrost",
    ("nf", "standard", None): "st_nf",
    ("nf", "augmented", "paper"): "nofrost_star",
    ("nf", "augmented", "authors"): "nofrost_star",
    ("bn", "standard", None): "st",
    ("bn", "at", 0.5): "sat",
    ("bn", "at", 1.0): "pgdat",
    ("mbn", "at", 0.5): "mbnat",
    ("in", "at", 0.5): "sat_in",
    ("bn", "trades", None): "trades",
    ("bn", "fat", None): "fat",
    ("bn", "trades_fat", None): "trades_fat",
    ("bn", "fast", None): "fastat",
    ("bn", "free", None): "freeat",
    ("bn", "augmented", "deepaugment"): "deepaugment",
    ("bn", "augmented", "tda"): "tda",
    ("bn", "augmented", "combine"): "combine",
}


def row_of(net: Mapping[str, Any]) -> str:
    """The row of configs/methods.py that a net is, or "" for one of no row. net: the `net` of a result."""
    by = {"at": net["adversarial_weight"], "augmented": net["terms"]}
    return _ROWS.get((_norm(net), net["method"], by.get(net["method"])), "")


def name_of(net: Mapping[str, Any]) -> str:
    """The paper's name of a net's method, or "METHOD (NORM)" for one of no row."""
    return METHODS.get(row_of(net)) or f"{net['method']} ({_norm(net).upper()})"


def _norm(net: Mapping[str, Any]) -> str:
    return "nf" if net["model"].startswith("nf_") else net["norm"]
