"""From checkpoints, or images from anywhere, to a run's record: ``soar-bench eval`` and ``score``.

:func:`prepare` and :func:`prepare_images` make a plan of what is missing; :func:`run` generates it,
scores it and writes the record. :func:`evaluate` and :func:`score` are both at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.types import Evaluator
from soar_bench.cache.images import ImageGone
from soar_bench.checkpoints import Checkpoint, resolve
from soar_bench.checkpoints.in_memory import from_memory
from soar_bench.core.devices import AUTO, choose
from soar_bench.core.distributed import ALONE, Group
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.memory import Watch, largest_of
from soar_bench.core.precision import full_name
from soar_bench.core.torch_state import preserved_torch_state
from soar_bench.records import Run, folder_of, read_run, write_run
from soar_bench.records.assembly import draft, score_table
from soar_bench.records.model import RunDraft
from soar_bench.records.provenance import made_by
from soar_bench.sampling.generate import Generation
from soar_bench.scoring.images import ImageSet
from soar_bench.scoring.plan import Options, Plan, check_able, prepare, prepare_images
from soar_bench.scoring.scores import BATCH, Observer, score_samples
from soar_bench.suites import get_suite
from soar_bench.suites.protocols import default_protocol, get_protocol, override
from soar_bench.suites.types import Protocol, Suite

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Options", "Plan", "check_able", "evaluate", "prepare", "prepare_images", "run", "score"]

#: Called with a sentence for a person.
Note = Callable[[str], None]
#: How often images that vanish while they are scored are made.
_ATTEMPTS = 3


def run(
    plan: Plan,
    options: Options,
    observe: Observer = lambda stage, done, total: None,
    note: Note = lambda words: None,
    group: Group = ALONE,
) -> Run:
    """Generate what is missing, score what is missing, and write the record.

    With several processes each calls this with the same plan; the main one writes, all return the
    record.
    """
    check_able([plan])
    started, source, force = datetime.now(UTC), plan.source, options.force
    # where nothing is left to do, torch need not be asked for a device
    idle = plan.idle and options.device == AUTO
    device = group.device("cpu" if idle else choose(options.device))

    generated, batch_size, at_once = 0, options.batch_size, options.batch_size or BATCH
    seconds: dict[str, float] = {}
    peaks: dict[str, dict[str, int]] = {}
    for _ in range(_ATTEMPTS):
        if isinstance(source, Generation):
            clock, at_once, watch = time.monotonic(), BATCH, Watch(device)
            made = source.make(options.batch_size, device, force, group, observe, note)
            generated, batch_size = generated + made.images, made.batch_size
            passed = seconds.get("generate", 0.0) + time.monotonic() - clock
            seconds["generate"] = round(passed, 3)
            held = group.gather(watch.peaks())
            peaks["generate"] = largest_of([peaks.get("generate", {}), *held])
        judged = score_samples(
            plan.judges, plan.samples, source, options.cache, at_once, device, force, observe, group
        )
        if not judged.gone:
            break
        force = False
        note(f"{len(judged.gone)} images have gone or are damaged: making them again")
    else:
        raise ImageGone(
            f"images keep vanishing from {source.folder}: see what deletes or damages them, "
            "and run the same command again"
        )
    if not group.main:
        return read_run(Path(group.share("")))

    scores = score_table(plan.samples, judged, source.noise)
    peaks |= judged.peaks
    record = draft(source, plan.judges, scores)
    anew = generated or any(judged.scored.values())
    finished = None if anew else _finished(options.results, record, scores)
    if finished is None:
        provenance = made_by(
            started,
            device,
            memory=largest_of(peaks.values()).get("gpu"),
            peaks=peaks,
            seconds=seconds | judged.seconds,
            generated=generated,
            batch_size=batch_size,
            scored=judged.scored,
            failed=judged.failed,
            processes=group.size,
            cut_prompts={cut.encoder: cut.record() for cut in plan.cut} or None,
        )
        record = record.model_copy(update={"made": provenance})
        if isinstance(source, ImageSet):
            source.write_files(folder_of(options.results, record))
        finished = write_run(options.results, record, scores)
    group.share(str(finished.folder))
    return finished


def _finished(results: Path, record: RunDraft, scores: pd.DataFrame) -> Run | None:
    """Return the earlier record if it says the same: it knows when the work was done."""
    try:
        old = read_run(folder_of(results, record))
        same = old.scores().equals(scores)
    except SoarBenchError:  # none, or damaged
        return None
    same = same and all(getattr(old.record, name) == v for name, v in record if name != "made")
    return old if same else None


def evaluate(
    checkpoint: Any,
    suite: str | Path | Suite = "shapes",
    *,
    evaluators: str | Evaluator | Sequence[str | Evaluator] | None = None,
    base: str | Path | None = None,
    protocol: str | Protocol | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    resolution: int | None = None,
    max_sequence_length: int | None = None,
    dtype: str | None = None,
    images_per_prompt: int | None = None,
    seed: int | None = None,
    label: str | None = None,
    results: str | Path = "results",
    cache: str | Path = "outputs/cache",
    device: str = AUTO,
    batch_size: int | str | None = "auto",
    evaluator_dtype: str | None = None,
    force: bool = False,
    progress: Observer | None = None,
) -> Run:
    """Generate and score images of a checkpoint, and write a record of the run.

    What exists is not made again: stopped, the same call goes on.

    Args:
        checkpoint: what ``soar-bench eval`` takes, a :class:`Checkpoint`, or a diffusers pipeline
            in memory, which is left as it was, with its place, precision and mode.
        suite: a suite's name, a file of prompts, or a :class:`Suite`.
        evaluators: names or :class:`evaluators.Evaluator` objects; by default the suite's.
        base: the pipeline that a transformer or a LoRA stands on, where it does not say.
        protocol: named settings; by default the suite's.
        steps: sampler steps; this and the next four replace the protocol's.
        guidance: guidance scale; 1 is none.
        resolution: side of the images in pixels.
        max_sequence_length: tokens of a prompt that a T5 encoder sees.
        dtype: precision of the model: float32, bfloat16 or float16, or fp32, bf16 or fp16.
        images_per_prompt: by default the suite's.
        seed: seed of the initial noise; by default the suite's.
        label: name for tables; by default the checkpoint's.
        results: folder of records.
        cache: folder of images and scores.
        device: a device of torch; ``auto`` takes the best, or the place of a pipeline in memory.
        batch_size: images made at once; ``auto`` finds how many fit.
        evaluator_dtype: precision of the evaluators that have a choice; by default float32.
        force: make and score again what is there.
        progress: called with a stage, samples done and samples in all.

    Raises:
        SoarBenchError: in one sentence, before anything is made, for everything that is wrong with
            these arguments.
    """
    suite = suite if isinstance(suite, Suite) else get_suite(str(suite))
    suite = suite if seed is None else replace(suite, seed=seed)
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    protocol = override(
        protocol or default_protocol(suite),
        steps=steps,
        guidance=guidance,
        resolution=resolution,
        max_sequence_length=max_sequence_length,
        dtype=dtype and full_name(dtype),
    )
    if isinstance(checkpoint, str | Path):
        checkpoint = resolve(str(checkpoint), None if base is None else str(base))
    elif not isinstance(checkpoint, Checkpoint):
        checkpoint = from_memory(checkpoint)
    checkpoint = checkpoint.named(label)
    if checkpoint.loaded is not None and device == AUTO:
        device = str(checkpoint.loaded.pipeline.device)
    chosen = None if evaluators is None else _listed(evaluators)
    at_once: int | None = None if batch_size == AUTO else batch_size  # type: ignore[assignment]
    options = Options(
        Path(results), Path(cache), images_per_prompt, chosen, at_once, device, evaluator_dtype,
        force,
    )  # fmt: skip
    with nullcontext() if checkpoint.loaded is None else preserved_torch_state():
        plan = prepare(checkpoint, suite, protocol, options)
        return run(plan, options, progress or (lambda stage, done, total: None))


def score(
    images: Any,
    prompts: Any = None,
    *,
    evaluators: str | Evaluator | Sequence[str | Evaluator],
    metadata: Any = None,
    label: str | None = None,
    suite: str | None = None,
    results: str | Path = "results",
    cache: str | Path = "outputs/cache",
    device: str = AUTO,
    batch_size: int = 32,
    evaluator_dtype: str | None = None,
    force: bool = False,
    progress: Observer | None = None,
) -> Run:
    """Score images from elsewhere, and write a record of them.

    Args:
        images: a folder, a list of files, or images in memory: PIL images, uint8 arrays [H, W, 3],
            or an array or tensor [B, 3, H, W], uint8 or float in [0, 1].
        prompts: for a folder, a file that lists images and prompts, where the folder does not hold
            one; otherwise one text for each image, or one for all.
        evaluators: names or :class:`evaluators.Evaluator` objects.
        metadata: of the prompts, for evaluators that read it, one mapping for each image.
        label: name for tables; by default the folder's.
        suite: name of the prompts; by default after their digest.

    The others are those of :func:`evaluate`; ``batch_size`` counts images scored at once.
    """
    options = Options(
        Path(results), Path(cache), None, _listed(evaluators), batch_size, device, evaluator_dtype,
        force,
    )  # fmt: skip
    observe = progress or (lambda stage, done, total: None)
    plan = prepare_images(images, options, prompts, metadata, label, suite, observe)
    return run(plan, options, observe)


def _listed(evaluators: str | Evaluator | Sequence[str | Evaluator]) -> tuple[str | Evaluator, ...]:
    several = isinstance(evaluators, Sequence) and not isinstance(evaluators, str)
    return tuple(evaluators) if several else (evaluators,)  # type: ignore[arg-type, return-value]
