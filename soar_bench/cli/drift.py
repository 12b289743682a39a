"""``soar-bench drift``."""

from __future__ import annotations

from pathlib import Path

import typer

from soar_bench.cli.common import BASE, DEVICE, DTYPE, Precision, numbers, terminate_as_interrupt


def drift(
    checkpoints: list[str] = typer.Argument(
        help="Checkpoints in SD3's format, as `eval` takes them. The first is the one that the "
        "others are compared with; seeds of one training become one."
    ),
    base: str | None = BASE,
    data: str = typer.Option(
        "shapes-clean:256", help="Captioned images, as `train` takes them; not shuffled."
    ),
    skip: int = typer.Option(
        0, min=0, help="Samples to pass over first, such as those that were trained on."
    ),
    samples: int | None = typer.Option(
        None, min=2, help="Samples to use.  [default: all after --skip]"
    ),
    protocol: str | None = typer.Option(
        None,
        help="Named settings of the sampler.  [default: shapes for the embedded world's data, "
        "soar-paper for any other]",
    ),
    steps: int | None = typer.Option(None, min=1, help="Sampler steps.  [default: the protocol's]"),
    guidance: float | None = typer.Option(
        None, min=0, help="Guidance scale; 1 means none.  [default: the protocol's]"
    ),
    resolution: int | None = typer.Option(
        None, min=8, help="Side of the images in pixels.  [default: the protocol's]"
    ),
    dtype: Precision | None = DTYPE,
    rolled: str = typer.Option(
        "1,2,4", help="Sampler steps of its own after which a model is measured."
    ),
    seed: int = typer.Option(0, min=0, help="Seed of the initial noise."),
    batch_size: int = typer.Option(
        32, min=1, help="Samples per batch; does not change the figures."
    ),
    device: str = DEVICE,
    output: Path = typer.Option(Path("outputs/drift"), help="Folder for the figures."),
    as_json: bool = typer.Option(False, "--json", help="Print drift.json instead of tables."),
) -> None:
    """Measure exposure bias: errors at sampled against ideal states.

    Writes drift.csv, drift.json and drift.png. What was measured is not measured again:
    interrupted, the same command goes on with the next checkpoint.
    """
    from rich.console import Console

    from soar_bench.checkpoints import resolve
    from soar_bench.core.devices import choose
    from soar_bench.core.progress import stages
    from soar_bench.core.text import json_text
    from soar_bench.core.torchvision import mend_torchvision
    from soar_bench.shapes.world import DISTRIBUTIONS
    from soar_bench.suites.protocols import get_protocol, override
    from soar_bench.trainer.data import open_data

    terminate_as_interrupt()
    resolved = [resolve(name, base) for name in checkpoints]
    by_digest = {checkpoint.digest: checkpoint for checkpoint in resolved}
    protocol_name = protocol or (
        "shapes" if data.partition(":")[0] in DISTRIBUTIONS else "soar-paper"
    )
    settings_of_protocol = override(
        get_protocol(protocol_name),
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
        settings_of_protocol,
        tuple(numbers("--rolled", rolled, int, 1)),
        seed,
        skip,
        max(len(source) - skip, 2) if samples is None else samples,
    )
    for checkpoint in by_digest.values():
        measure.check(checkpoint, settings)
    with stages() as observe:
        work = measure.Measurement(settings, source, output, device, batch_size, observe)
        probes = [work.probe(checkpoint) for checkpoint in by_digest.values()]
    figures.check_alike(probes)
    settings_json = settings.as_json(data, source)
    files = show.write(output, probes, settings_json)
    if as_json:
        typer.echo(json_text(show.record(probes, settings_json)), nl=False)
        return
    console = Console()
    for table in show.tables(probes):
        console.print(table)
    for sentence in show.notes(probes):
        typer.echo(sentence)
    for file in files:
        typer.echo(file)
