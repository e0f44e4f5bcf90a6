"""``forwardpass tune``: the quickest way to run a model on this machine, measured and remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from forwardpass.optimize.tune import Trial, Tuning
    from forwardpass.registry import ModelFiles


def tune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An artifact or model folder.")],
    objective: Annotated[
        Literal["throughput", "latency"], typer.Option(help="Rows per second of the machine, or seconds of one row.")
    ] = "throughput",
    cores: Annotated[int | None, typer.Option(min=1, help="Cores to use. [default: all this process may use]")] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Of each measurement; there are dozens.")] = 0.2,
    remember: Annotated[
        bool, typer.Option("--remember/--no-remember", help="Use what was found from now on, on this machine.")
    ] = True,
    forget: Annotated[bool, typer.Option("--forget", help="Measure nothing; forget what was found before.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Find the quickest way to run a model here.

    Tries the backends that are installed at full precision, with several shares of the machine's cores, on the
    model's own sample. What was found holds for serving, jobs and load on this machine, below what model.yaml
    says. Accuracy stays as it is; `forwardpass optimize` makes models faster at a measured price.

    \b
    Example:
      forwardpass tune examples/models/digits --seconds 0.02 --no-remember
    """
    from pathlib import Path

    from forwardpass.config import Settings, available_cores
    from forwardpass.optimize.speed import Setting
    from forwardpass.optimize.tune import create_settings
    from forwardpass.optimize.tune import tune as measure
    from forwardpass.registry import find_model, tuned
    from forwardpass.server.plan import plan_model

    files = find_model(Path(model))
    if forget:
        there = tuned.forget(files.artifact)
        typer.echo(f"{files.name}: {'forgotten' if there else 'there was nothing to forget'}")
        return
    plain = files.as_written()
    count = cores or available_cores()
    plan = plan_model(plain.config, Settings(cores=count), plain.artifact.stat().st_size)
    usual = Setting(plain.backend(), plan.threads, plan.replicas)
    found = measure(plain, create_settings(plain, usual, count), seconds, objective, lambda text: _tell(text, as_json))
    if remember:
        tuned.remember(plain.artifact, found.tuned())
    typer.echo(_as_json(plain, found) if as_json else _as_text(plain, found, remember))


def _tell(text: str, as_json: bool) -> None:
    if not as_json:
        typer.echo(text, err=True)


def _as_text(files: ModelFiles, found: Tuning, remember: bool) -> str:
    lines = [f"{'':2}{'setting':48}{'1 row':>10}{'rows/s':>10}{'batch':>7}"]
    lines += [_line(trial, trial is found.chosen) for trial in found.trials]
    kept = "used on this machine from now on (--forget undoes it)" if remember else "not remembered"
    return "\n".join([*lines, f"{files.name}: {found.chosen.setting}, batches of up to {found.chosen.batch}; {kept}"])


def _line(trial: Trial, chosen: bool) -> str:
    name = f"{'* ' if chosen else '  '}{trial.setting!s:48}"
    if trial.failed:
        return f"{name}  failed: {' '.join(trial.failed.split())}"
    return f"{name}{trial.latency * 1e3:>7.2f} ms{trial.rate:>10,.0f}{trial.batch:>7}"


def _as_json(files: ModelFiles, found: Tuning) -> str:
    import msgspec

    trials = [{**msgspec.to_builtins(trial), "chosen": trial is found.chosen} for trial in found.trials]
    return msgspec.json.encode({"model": files.name, "trials": trials}).decode()
