"""``soar-bench drift``."""

from __future__ import annotations

from pathlib import Path

import typer

from soar_bench.cli.options import Precision, numbers


def drift(
    checkpoints: list[str] = typer.Argument(
        help="Checkpoints in SD3's format, as `eval` takes them. The first is the one that the "
        "others are compared with; seeds of one training become one."
    ),
    base: str | None = typer.Option(
        None, help="The pipeline that a transformer or a LoRA stands on, where it does not say."
    ),
    data: str = typer.Option(
        "shapes-clean:256", help="Captioned pictures, as `train` takes them; not shuffled."
    ),
    skip: int = typer.Option(
        0, min=0, help="Pass over so many samples, such as those that were trained on."
    ),
    samples: int | None = typer.Option(
        None, min=2, help="Samples to use.  [default: all that follow]"
    ),
    protocol: str | None = typer.Option(
        None,
        help="Named settings of the sampler.  [default: shapes for the embedded world's data, "
        "soar-paper for other]",
    ),
    steps: int | None = typer.Option(None, min=1, help="Sampler steps.  [default: the protocol's]"),
    guidance: float | None = typer.Option(
        None, min=0, help="Guidance, 1 is none.  [default: the protocol's]"
    ),
    resolution: int | None = typer.Option(None, min=8, help="Side of the pictures in pixels."),
    dtype: Precision | None = typer.Option(None, help="Precision of the model."),
    rolled: str = typer.Option(
        "1,2,4", help="After how many of its own steps a model is measured."
    ),
    seed: int = typer.Option(0, min=0, help="Of the noise."),
    batch_size: int = typer.Option(32, min=1, help="Samples at once; changes no number."),
    device: str = typer.Option("auto", help="Where the work is done: cpu, cuda, mps."),
    output: Path = typer.Option(Path("outputs/drift"), help="Where figures are written."),
    as_json: bool = typer.Option(False, "--json", help="Print drift.json in place of tables."),
) -> None:
    """Measure exposure bias: errors at the states of a model's own sampler against ideal ones.

    Writes drift.csv, drift.json and drift.png. What was measured is not measured again:
    interrupted, the same command goes on with the next checkpoint.
    """
    from rich.console import Console

    from soar_bench.checkpoints import resolve
    from soar_bench.cli.signals import terminate_as_interrupt
    from soar_bench.core.devices import choose
    from soar_bench.core.progress import stages
    from soar_bench.core.torchvision import mend_torchvision
    from soar_bench.records import json_text
    from soar_bench.shapes.world import DISTRIBUTIONS
    from soar_bench.suites.protocols import get_protocol, override
    from soar_bench.train.data import open_data

    terminate_as_interrupt()
    found = {one.digest: one for one in (resolve(name, base) for name in checkpoints)}
    named = protocol or ("shapes" if data.partition(":")[0] in DISTRIBUTIONS else "soar-paper")
    chosen = override(
        get_protocol(named),
        steps=steps,
        guidance=guidance,
        resolution=resolution,
        dtype=dtype and dtype.value,
    )
    source = open_data(data)
    device = choose(device)

    mend_torchvision()
    from soar_bench.drift import figures, measure, show

    settings = measure.Settings(
        chosen,
        tuple(numbers("--rolled", rolled, int, 1)),
        seed,
        skip,
        max(len(source) - skip, 2) if samples is None else samples,
    )
    for checkpoint in found.values():
        measure.check(checkpoint, settings)
    with stages() as observe:
        work = measure.Measurement(settings, source, output, device, batch_size, observe)
        probes = [work.probe(checkpoint) for checkpoint in found.values()]
    figures.check_alike(probes)
    made = measure.told(settings, data, source)
    files = show.write(output, probes, made)
    if as_json:
        typer.echo(json_text(show.record(probes, made)), nl=False)
        return
    console = Console()
    for table in show.tables(probes):
        console.print(table)
    for sentence in show.notes(probes):
        typer.echo(sentence)
    for file in files:
        typer.echo(file)
