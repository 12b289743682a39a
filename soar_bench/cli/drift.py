"""``soar-bench drift``."""

from __future__ import annotations

from pathlib import Path

from typer import Argument, Option

from soar_bench.cli import common


def drift(
    checkpoints: list[str] = Argument(
        help="Checkpoints in SD3's format, as `eval` takes them. The first is the one that the "
        "others are compared with; seeds of one training become one."
    ),
    base: str | None = common.BASE,
    data: str = Option(
        "shapes-clean:256", help="Captioned images, as `train` takes them; not shuffled."
    ),
    skip: int = Option(
        0, min=0, help="Samples to pass over first, such as those that were trained on."
    ),
    samples: int | None = Option(None, min=2, help="Samples to use.  [default: all after --skip]"),
    protocol: str | None = Option(
        None,
        autocompletion=common.PROTOCOLS,
        help="Named settings of the sampler.  [default: shapes for the embedded world's data, "
        "soar-paper for any other]",
    ),
    steps: int | None = Option(None, min=1, help="Sampler steps.  [default: the protocol's]"),
    guidance: float | None = Option(
        None, min=0, help="Guidance scale; 1 means none.  [default: the protocol's]"
    ),
    resolution: int | None = common.RESOLUTION,
    dtype: str | None = common.DTYPE,
    rolled: str = Option("1,2,4", help="Sampler steps of its own after which a model is measured."),
    seed: int = Option(0, min=0, help="Seed of the initial noise."),
    batch_size: int = Option(32, min=1, help="Samples per batch; does not change the figures."),
    device: str = common.DEVICE,
    config: Path | None = common.CONFIG,
    output: Path = Option(
        Path("outputs/drift"),
        metavar="FOLDER",
        callback=common.folder_to_write,
        help="Folder for the figures.",
    ),
    dry_run: bool = common.DRY_RUN,
    as_json: bool = Option(False, "--json", help="Print drift.json instead of tables."),
) -> None:
    """Measure exposure bias: errors at sampled against ideal states.

    Writes drift.csv, drift.json and drift.png. What was measured is not measured again:
    interrupted, the same command goes on with the next checkpoint.
    """
    from soar_bench.checkpoints import resolve
    from soar_bench.core.devices import choose
    from soar_bench.core.progress import stages
    from soar_bench.core.terminal import new_console
    from soar_bench.core.torchvision import mend_torchvision
    from soar_bench.shapes.world import DISTRIBUTIONS
    from soar_bench.suites.protocols import get_protocol, override
    from soar_bench.trainer.data import open_data

    by_digest = {c.digest: c for c in [resolve(name, base) for name in checkpoints]}
    embedded = data.partition(":")[0] in DISTRIBUTIONS
    named = get_protocol(protocol or ("shapes" if embedded else "soar-paper"))
    sampler = override(named, steps=steps, guidance=guidance, resolution=resolution, dtype=dtype)
    source = open_data(data)
    device = choose(device)

    mend_torchvision()
    from soar_bench.drift import figures, measure, show

    lengths = tuple(common.numbers("--rolled", rolled, int, 1))
    count = max(len(source) - skip, 2) if samples is None else samples
    settings = measure.Settings(sampler, lengths, seed, skip, count)
    for checkpoint in by_digest.values():
        measure.check(checkpoint, settings)
    if dry_run:
        labels = ", ".join(c.label for c in by_digest.values())
        common.echo_lines(
            [f"{labels}: {count} samples of {data} in batches of {batch_size}, into {output}"]
        )
        return
    with stages() as observe:
        work = measure.Measurement(settings, source, output, device, batch_size, observe)
        probes = [work.probe(checkpoint) for checkpoint in by_digest.values()]
    figures.check_alike(probes)
    settings_json = settings.as_json(data, source)
    files = show.write(output, probes, settings_json)
    if as_json:
        common.echo_json(show.record(probes, settings_json))
        return
    new_console().print(*show.tables(probes))
    common.echo_lines([*show.notes(probes), *files])
