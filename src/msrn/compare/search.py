"""Search settings for each variant with the same number of trials, by validation mAP alone.

    base: {preset: voc2007_lite, data: {root: VOCdevkit, feature_cache: features, augment: flip}, model.freeze: -1}
    vary: {model.head: [average_pool, csra]}     # each variant is searched by itself
    space:                                       # for all: bounds, or a list of values
      optim.lr: {low: 1.0e-4, high: 1.0e-1, log: true}
      optim.weight_decay: [0.0, 0.01, 0.1]
    space_of:                                    # for one variant besides
      csra: {model.head.residual: {low: 0.05, high: 1.0, log: true}}
    trials: 12
    seed: 0

The first trial is the variant as it stands. The others are proposed by Optuna's tree-structured Parzen estimator; one
that falls behind the median of the others at the same epoch is ended early, where ``prune`` is true.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from msrn.compare.folder import claimed, error_in_log, run_process
from msrn.compare.grid import Variants, variant_name
from msrn.config import Settings, load_settings, merge, nest, validate
from msrn.engine.interrupt import Interrupted, stop_requests
from msrn.errors import ConfigError, DependencyError, did_you_mean
from msrn.files import write_atomically
from msrn.presets import read_yaml

if TYPE_CHECKING:
    from optuna import Study, Trial

__all__ = ["Found", "SearchFile", "read_search", "run_search"]

TRIALS = "trials"
RANDOM_TRIALS = 4
"""Trials before the estimator proposes and pruning begins."""


class Bounds(BaseModel):
    """A number between two bounds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: float
    high: float
    log: bool = Field(False, description="even on a logarithmic scale")
    whole: bool = Field(False, description="a whole number")

    @model_validator(mode="after")
    def _ordered(self) -> Bounds:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"expected low < high, above 0 on a log scale, got {self.low} and {self.high}")
        return self


Space = dict[str, Bounds | list[Any]]


class SearchFile(Variants):
    """What a search file holds."""

    space: Space = Field(default_factory=dict, description="settings that are searched for every variant")
    space_of: dict[str, Space] = Field(default_factory=dict, description="further settings of one variant")
    trials: Annotated[int, Field(ge=1)] = 12
    seed: Annotated[int, Field(ge=0)] = 0
    prune: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """The best settings of a variant: those of the space, the validation mAP they reached, and the trials done."""

    variant: str
    settings: dict[str, Any]
    val_map: float
    trials: int
    pruned: int


def read_search(path: str | Path) -> SearchFile:
    """A search file, checked with every variant's settings.

    Raises:
        ConfigError: as for a grid; or ``space_of`` names no variant, nothing is searched, or there is no validation.
    """
    where = str(path)
    file = validate(SearchFile, read_yaml(path), where)
    variants = file.trees(where)
    names = [variant_name(choices) for choices, _, _ in variants]
    for name in file.space_of:
        if name not in names:
            raise ConfigError(
                f"space_of: there is no variant {name!r}",
                where,
                did_you_mean(name, names) or f"known: {', '.join(names)}",
            )
    for name, (_, _, tree) in zip(names, variants, strict=True):
        if not file.space and name not in file.space_of:
            raise ConfigError(f"nothing is searched for {name}", where, "name settings with bounds under space")
        settings = load_settings(tree, f"{where}, {name}")
        if settings.data.val == "none":
            raise ConfigError("a search needs a validation split, got data.val none", where)
        for setting, values in _space(file, name).items():
            for value in values if isinstance(values, list) else (values.low, values.high):
                shown = int(value) if isinstance(values, Bounds) and values.whole else value
                load_settings(merge(tree, nest({setting: shown})), f"{where}, {name}, space {setting}")
    return file


def run_search(file: SearchFile, folder: Path, *, say: Callable[[str], None] = print) -> list[Found]:
    """Run the trials that are missing, and write ``best.yaml``, a grid of the best settings for ``msrn compare``.

    Args:
        file: from ``read_search``.
        folder: new, empty, or of an earlier call.
        say: gets one line per trial.

    Raises:
        DependencyError: Optuna is not installed.
        ConfigError: the folder holds something else, or another process works there; every trial of a variant failed.
        Interrupted: SIGINT or SIGTERM came; the trial in hand saved its state and is continued by the next call.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise DependencyError("msrn search needs Optuna", "optuna", "pip install 'msrn[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = []
    with claimed(folder, TRIALS) as lock, stop_requests() as stop:
        storage = JournalStorage(JournalFileBackend(str(folder / TRIALS / "journal.log")))
        for choices, _, tree in file.trees(""):
            name = variant_name(choices)
            study = optuna.create_study(
                study_name=name,
                storage=storage,
                direction="maximize",
                load_if_exists=True,
                sampler=optuna.samplers.TPESampler(seed=file.seed, n_startup_trials=RANDOM_TRIALS),
                pruner=optuna.pruners.MedianPruner(RANDOM_TRIALS) if file.prune else optuna.pruners.NopPruner(),
            )
            _Search(file, name, tree, study, folder / TRIALS, lock, stop, say).run()
            found.append(_best(study, name))
    write_atomically(folder / "best.yaml", _grid_of(file, found))
    return found


@dataclass(frozen=True, slots=True)
class _Search:
    """The trials of one variant."""

    file: SearchFile
    name: str
    tree: Mapping[str, Any]
    study: Study
    folder: Path
    lock: int
    stop: Event
    say: Callable[[str], None]

    def run(self) -> None:
        from optuna.trial import TrialState

        done = [trial for trial in self.study.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        failed = [
            trial for trial in self.study.trials if trial.state is TrialState.FAIL and "error" in trial.user_attrs
        ]
        for trial in self.study.trials:
            if trial.state is TrialState.RUNNING:  # its process ended before it was told
                self.study.tell(trial.number, state=TrialState.FAIL)
                self.study.enqueue_trial(trial.params, skip_if_exists=False)
        if not self.study.trials:
            self.study.enqueue_trial(self._as_it_stands())
        for number in range(len(done) + len(failed) + 1, self.file.trials + 1):
            self._one(self.study.ask(), f"{self.name} [{number}/{self.file.trials}]")

    def _one(self, trial: Trial, title: str) -> None:
        from optuna.trial import TrialState

        chosen = {name: _suggest(trial, name, values) for name, values in _space(self.file, self.name).items()}
        settings = load_settings(merge(merge(self.tree, nest(chosen)), {"run": {"seed": self.file.seed}}))
        place = self.folder / _folder_name(self.name, settings)
        code, curve, pruned = self._train(place, settings, trial)
        shown = ", ".join(f"{name} {_short(value)}" for name, value in chosen.items())
        if self.stop.is_set():
            raise Interrupted(self.folder.parent)
        if code == 0 and curve:
            best = max(curve.values())
            self.study.tell(trial, best)
            self.say(f"{title}: val mAP {100 * best:.2f} % with {shown}")
        elif pruned:
            self.study.tell(trial, state=TrialState.PRUNED)
            self.say(f"{title}: ended after epoch {max(curve)} at {100 * max(curve.values()):.2f} %, with {shown}")
        else:
            message = error_in_log(place / "log.txt", code)
            trial.set_user_attr("error", message)
            self.study.tell(trial, state=TrialState.FAIL)
            self.say(f"{title}: failed with {shown}: {message}")
        shutil.rmtree(place / "run", ignore_errors=True)  # of our own making; the log of a trial is all that is kept

    def _train(self, place: Path, settings: Settings, trial: Trial) -> tuple[int, dict[int, float], bool]:
        """Exit code, validation mAP by epoch, and whether the trial was ended early."""
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(place / "settings.yaml", settings.to_yaml())
        run = place / "run"
        reported: set[int] = set()
        pruned = False

        def falls_behind() -> bool:
            nonlocal pruned
            for epoch, value in _curve(run / "log.jsonl").items():
                if epoch not in reported:
                    reported.add(epoch)
                    trial.report(value, epoch)
            pruned = bool(reported) and max(reported) < settings.optim.epochs and trial.should_prune()
            return pruned

        resumed = ["--resume", str(run)] if (run / "last.pt").exists() else []
        arguments = resumed or ["--config", str(place / "settings.yaml"), "--run.folder", str(run)]
        code = run_process(
            "msrn",
            ["train", *arguments],
            log=place / "log.txt",
            lock=self.lock,
            stop=self.stop,
            dispensable=falls_behind,
        )
        return code, _curve(run / "log.jsonl"), pruned

    def _as_it_stands(self) -> dict[str, Any]:
        """The values of the variant itself, as far as they lie in the space."""
        settings = load_settings(self.tree).model_dump(mode="json")
        values: dict[str, Any] = {}
        for name, space in _space(self.file, self.name).items():
            value: Any = settings
            for key in name.split("."):
                value = value[key] if isinstance(value, Mapping) and key in value else None
            if isinstance(space, list):
                names = [json.dumps(each) for each in space]
                if json.dumps(value) in names:
                    values[name] = json.dumps(value)
            elif isinstance(value, int | float) and space.low <= value <= space.high:
                values[name] = value
        return values


def _space(file: SearchFile, variant: str) -> Space:
    return {**file.space, **file.space_of.get(variant, {})}


def _suggest(trial: Trial, name: str, space: Bounds | list[Any]) -> Any:
    if isinstance(space, list):
        return json.loads(trial.suggest_categorical(name, [json.dumps(value) for value in space]))
    if space.whole:
        return trial.suggest_int(name, int(space.low), int(space.high), log=space.log)
    return trial.suggest_float(name, space.low, space.high, log=space.log)


def _curve(log: Path) -> dict[int, float]:
    """Validation mAP by epoch, as far as a run's log tells."""
    if not log.is_file():
        return {}
    curve = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the line that is being written
        if event.get("event") == "evaluate" and event.get("val_mAP") is not None:
            curve[int(event["epoch"])] = float(event["val_mAP"])
    return curve


def _best(study: Study, name: str) -> Found:
    from optuna.trial import TrialState

    states = [trial.state for trial in study.trials]
    if TrialState.COMPLETE not in states:
        raise ConfigError(f"no trial of {name} was finished", hint="see the log.txt of its trials")
    best = study.best_trial
    values = {key: json.loads(value) if isinstance(value, str) else value for key, value in best.params.items()}
    return Found(
        name, values, float(best.value or 0.0), states.count(TrialState.COMPLETE), states.count(TrialState.PRUNED)
    )


def _grid_of(file: SearchFile, found: list[Found]) -> str:
    """A grid file: each variant with the settings found for it."""
    own = {variant_name(choices): tree for choices, tree, _ in file.trees("")}
    searched = {each.variant: merge(own[each.variant], nest(each.settings)) for each in found}
    head = "".join(
        f"# {each.variant}: val mAP {100 * each.val_map:.2f} % in {each.trials + each.pruned} trials\n"
        for each in found
    )
    grid = {"base": file.base, "vary": {"searched": searched}, "seeds": [0, 1, 2]}
    return head + yaml.safe_dump(grid, sort_keys=False, allow_unicode=True)


def _folder_name(variant: str, settings: Settings) -> str:
    digest = hashlib.sha256(json.dumps([variant, settings.model_dump(mode="json")], sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
