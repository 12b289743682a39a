"""soar-bench: is a text-to-image checkpoint really better?

    import soar_bench as sb

    base = sb.evaluate("shapes", "shapes-dev", images_per_prompt=1)
    tuned = sb.evaluate("outputs/train/soar-seed0", "shapes-dev", images_per_prompt=1)
    print(sb.compare([base, tuned]).to_markdown())

docs/python.md shows all of it. Importing this imports no torch, no pandas and no diffusers: names
are imported when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluators.registry import names as list_evaluators
    from soar_bench.boards.comparing import compare
    from soar_bench.boards.comparison import Comparison
    from soar_bench.checkpoints import Checkpoint
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.evaluation import evaluate, score
    from soar_bench.records import Run
    from soar_bench.records import read_runs as load_runs
    from soar_bench.suites import get_suite as load_suite
    from soar_bench.suites import names as list_suites
    from soar_bench.suites.types import Prompt, Protocol, Suite
    from soar_bench.trainer.config import Config
    from soar_bench.trainer.run import train

__version__ = "0.1.0"

__all__ = [
    "Checkpoint",
    "Comparison",
    "Config",
    "Prompt",
    "Protocol",
    "Run",
    "SoarBenchError",
    "Suite",
    "compare",
    "evaluate",
    "list_evaluators",
    "list_suites",
    "load_runs",
    "load_suite",
    "score",
    "train",
]

#: Public name: module and name there.
_LAZY = {
    "Checkpoint": ("soar_bench.checkpoints", "Checkpoint"),
    "Comparison": ("soar_bench.boards.comparison", "Comparison"),
    "Config": ("soar_bench.trainer.config", "Config"),
    "Prompt": ("soar_bench.suites.types", "Prompt"),
    "Protocol": ("soar_bench.suites.types", "Protocol"),
    "Run": ("soar_bench.records", "Run"),
    "SoarBenchError": ("soar_bench.core.errors", "SoarBenchError"),
    "Suite": ("soar_bench.suites.types", "Suite"),
    "compare": ("soar_bench.boards.comparing", "compare"),
    "evaluate": ("soar_bench.evaluation", "evaluate"),
    "list_evaluators": ("evaluators.registry", "names"),
    "list_suites": ("soar_bench.suites", "names"),
    "load_runs": ("soar_bench.records", "read_runs"),
    "load_suite": ("soar_bench.suites", "get_suite"),
    "score": ("soar_bench.evaluation", "score"),
    "train": ("soar_bench.trainer.run", "train"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from soar_bench.core.packages import check_packages

    check_packages()
    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
