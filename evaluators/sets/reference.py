"""A run against a reference set of pictures: FID, KID, CMMD, precision, recall and others.

``fidelity:FOLDER``, ``fidelity-dinov2:FOLDER`` and ``cmmd:FOLDER`` name the folder with the
reference pictures. The set is known by the digest of its files, and its features are kept.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluators import catalogue
from evaluators.clip import tower
from evaluators.images import square_view
from evaluators.sets import dinov2, figures, inception
from evaluators.types import AT_ONCE, EvaluatorError, Metric, Sample, Score, SetEvaluator
from evaluators.weights import Weights
from soar_bench.core.digests import digest_of, file_digest, remember
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import expanded, home, replace_atomically
from soar_bench.core.images import READABLE, READING, images_in, read_pixels
from soar_bench.core.text import count
from soar_bench.core.threads import in_threads

_FEWEST = figures.NEIGHBOUR + 2
_READERS = 8
#: The centre square, Pillow's bicubic.
_CMMD_VIEW = square_view()

#: Function from uint8 RGB images [H, W, 3] to features, float [B, D].
Encoder = Callable[[Sequence[np.ndarray]], np.ndarray]


class ReferenceSet:
    """Pictures in a folder and below, known by the digest of their files."""

    def __init__(self, folder: str) -> None:
        """EvaluatorError if the folder has no name."""
        if not folder:
            raise EvaluatorError(
                "name the folder of reference pictures after the colon, as in cmmd:pictures/coco"
            )
        self.folder = expanded(folder)
        self.label = re.sub(r"[^A-Za-z0-9_.-]+", "-", self.folder.name).strip("-.") or "reference"

    def files(self) -> list[Path]:
        """Return the pictures by path. EvaluatorError if they are too few."""
        if not self.folder.is_dir():
            raise EvaluatorError(
                f"there is no folder {self.folder} with reference pictures: name one that exists"
            )
        try:
            files = [self.folder / name for name in images_in(self.folder)]
        except SoarBenchError as error:
            raise EvaluatorError(f"the reference set {self.folder}: {error}") from None
        if no_file := [file for file in files if not file.is_file()]:
            raise EvaluatorError(f"the reference picture {no_file[0]} is no file: take it away")
        if len(files) < _FEWEST:
            raise EvaluatorError(
                f"the reference set {self.folder} has {count(len(files), 'picture')} "
                f"({READABLE}), and {_FEWEST} are the fewest: put the reference pictures there"
            )
        return files

    def check(self) -> None:
        """Read every picture, once as long as none changes. EvaluatorError names one that cannot
        be read.
        """

        def read_all() -> str:
            for _ in in_threads(self._read, files, _READERS):
                pass
            return "read"

        files = self.files()
        remember(f"pictures of {self.folder.resolve()}", files, read_all, READING)

    def _read(self, file: Path) -> np.ndarray:
        try:
            return read_pixels(file)[0]
        except SoarBenchError as error:
            raise EvaluatorError(f"a reference picture cannot be read: {error}") from None

    def digest(self) -> str:
        """Return a digest of the pictures' files, whatever their names and order."""
        return digest_of(sorted(file_digest(file) for file in self.files()))

    def features(self, encoder: Encoder, decided_by: Mapping[str, str]) -> np.ndarray:
        """Return the features, float32 [M, D], which are kept under what decides them: an
        evaluator's identity, with :meth:`digest` in it.

        EvaluatorError names a picture that cannot be read.
        """
        key = digest_of([dict(decided_by), READING])
        file = home() / "references" / f"{self.label}-{key[:16]}.npy"
        try:
            return np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):  # none, or damaged
            pass
        rows = []
        files = self.files()
        for start in range(0, len(files), AT_ONCE):
            images = [self._read(file) for file in files[start : start + AT_ONCE]]
            rows.append(np.asarray(encoder(images), np.float32))
        features = np.concatenate(rows)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(file) as aside, aside.open("wb") as stream:
            np.save(stream, features, allow_pickle=False)
        return features


class AgainstReference(SetEvaluator):
    """Base class: features of a run's images against those of a reference set."""

    together = "run"
    fewest = _FEWEST
    #: what the features come from, in the metrics' names and descriptions
    features = ""

    def __init__(self, folder: str, weights: tuple[Weights, ...]) -> None:
        self.reference = ReferenceSet(folder)
        self.weights = weights

    def check(self) -> None:
        super().check()
        self.reference.check()

    def identity(self) -> dict[str, str]:
        return {**super().identity(), "reference": self.reference.digest()}

    @abstractmethod
    def encoder(self, device: str, dtype: str) -> Encoder:
        """Return the function from images to features, with its network in memory."""

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        self.check()
        self._encoder = self.encoder(device, dtype)
        versions = ",".join(metric.version for metric in self.metrics)
        decided_by = {**self.identity(), "versions": versions, "dtype": dtype}
        self._rows = self.reference.features(self._encoder, decided_by)

    def embed(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        return list(self._encoder([sample.image for sample in samples])) if samples else []

    @abstractmethod
    def values(self, run: np.ndarray, reference: np.ndarray) -> dict[str, np.ndarray | str]:
        """Return each metric's value of each row, [N], whose mean is the figure, or why the run has
        none.
        """

    def score_set(self, rows: Sequence[np.ndarray]) -> list[dict[str, Score]]:
        columns = self.values(np.stack(rows), self._rows)
        return [
            {n: Score(None, c) if isinstance(c, str) else Score(float(c[i]))
             for n, c in columns.items()}
            for i in range(len(rows))
        ]  # fmt: skip


_ROW = "An image's value is the figure plus the image's influence on it."
_ANY = (-float("inf"), float("inf"))


def _metric(
    name: str, unit: str, higher: bool, source: str, description: str, version: str = "1"
) -> Metric:
    text = f"{description} {_ROW}"
    return Metric(name, unit, _ANY, higher, version, source, text, skewed=not higher)


class Fidelity(AgainstReference):
    """FID, FID-infinity, KID, precision, recall, density and coverage in one network's features."""

    def __init__(self, name: str, folder: str, weights: tuple[Weights, ...]) -> None:
        super().__init__(folder, weights)
        label, of = self.reference.label, f"{self.features} features of the run and of {folder}."
        self.name = f"{name}-{label}"
        self._suffix = f"{name.removeprefix('fidelity')}-{label}".replace("-", "_")
        name_of = "{}" + self._suffix
        manifold, density = "arXiv 1904.06991", "arXiv 2002.09797; clovaai, prdc"
        self.metrics = (
            _metric(name_of.format("fid"), "squared distance", False, "arXiv 1706.08500",
                    f"Frechet distance of {of} Falls with the number of images."),
            _metric(name_of.format("fid_infinity"), "squared distance", False, "arXiv 1911.07023",
                    f"Frechet distance, extrapolated to any number of images, of {of} Needs more "
                    "than two images per feature."),
            _metric(name_of.format("kid"), "squared MMD", False, "arXiv 1801.01401",
                    f"Unbiased squared MMD under the cubic kernel of {of}"),
            _metric(name_of.format("precision"), "share of images", True, manifold,
                    f"Images within the reference's manifold, in {of}"),
            _metric(name_of.format("recall"), "share of the reference", True, manifold,
                    f"Reference pictures within the run's manifold, in {of}"),
            _metric(name_of.format("density"), f"balls per image; over {figures.NEIGHBOUR}", True,
                    density, f"Reference balls that hold an image, in {of}"),
            _metric(name_of.format("coverage"), "share of the reference", True, density,
                    f"Reference balls that hold an image of the run, in {of}"),
        )  # fmt: skip

    def values(self, run: np.ndarray, reference: np.ndarray) -> dict[str, np.ndarray | str]:
        images, features = run.shape
        columns: dict[str, np.ndarray | str] = {
            "fid": figures.frechet(run, reference),
            "fid_infinity": figures.frechet_infinity(run, reference)
            if images > 2 * features
            else f"the run has {images:,} images, and {features:,} features need more than "
            f"{2 * features:,} for an extrapolation",
            "kid": figures.unbiased_mmd(run, reference, figures.cubic),
            **figures.manifold(run, reference),
        }
        return {f"{name}{self._suffix}": column for name, column in columns.items()}


class InceptionFidelity(Fidelity):
    """In the Inception network of the published FID, through the package torch-fidelity."""

    features = "Inception (2015-12-05)"

    def __init__(self, folder: str, weights: Weights = catalogue.INCEPTION) -> None:
        super().__init__("fidelity", folder, (weights,))

    def check(self) -> None:
        inception.check()
        super().check()

    def identity(self) -> dict[str, str]:
        return {**super().identity(), "torch-fidelity": inception.package_version()}

    def encoder(self, device: str, dtype: str) -> Encoder:
        return inception.Encoder(self.weights[0], device)


class DinoFidelity(Fidelity):
    """In DINOv2 ViT-B/14, whose distances follow people's judgements better (arXiv 2306.04675)."""

    features = "DINOv2 ViT-B/14"
    dtypes = ("float32", "bfloat16", "float16")

    def __init__(self, folder: str, weights: Weights = catalogue.DINOV2) -> None:
        super().__init__("fidelity-dinov2", folder, (weights,))

    def encoder(self, device: str, dtype: str) -> Encoder:
        return dinov2.Encoder(self.weights[0], device, dtype)


class Cmmd(AgainstReference):
    """CLIP maximum mean discrepancy, as google-research/cmmd defines it."""

    features = "CLIP ViT-L/14 at 336 pixels"
    dtypes = ("float32", "bfloat16", "float16")

    def __init__(
        self, folder: str, clip: Weights = catalogue.CLIP_VIT_L_14_336, *, embedding: int = 768
    ) -> None:
        super().__init__(folder, (clip,))
        label = self.reference.label
        self.name, self._metric = f"cmmd-{label}", f"cmmd_{label}".replace("-", "_")
        self._embedding = embedding
        self.metrics = (
            _metric(self._metric, "1000 squared MMD", False,
                    "arXiv 2401.09603; google-research/cmmd",
                    f"1000 times the squared MMD under a Gaussian kernel of width 10 of "
                    f"{self.features} embeddings of the run and of {folder}.", version="2"),
        )  # fmt: skip

    def encoder(self, device: str, dtype: str) -> Encoder:
        (clip,) = self.weights
        loaded = tower(clip, clip, device, dtype, self.features, self._embedding)
        return lambda images: loaded.embed_images(images, _CMMD_VIEW).numpy()

    def values(self, run: np.ndarray, reference: np.ndarray) -> dict[str, np.ndarray | str]:
        return {self._metric: 1000 * figures.biased_mmd(run, reference, figures.gaussian)}
