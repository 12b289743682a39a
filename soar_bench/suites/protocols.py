"""Named protocols: settings of generation under which numbers are comparable.

docs/suites.md says where each setting comes from and which ones are unknown. Imports no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from soar_bench.core.errors import SoarBenchError, unknown_name
from soar_bench.core.precision import PRECISIONS
from soar_bench.shapes.captions import MAX_TOKENS
from soar_bench.suites import FETCHED, SUITES, whole_name
from soar_bench.suites.types import Protocol, Suite

#: Protocol of the embedded world; its base has converged at 20 steps.
SHAPES_PROTOCOL = Protocol(
    name="shapes", steps=20, guidance=3.0, resolution=64, max_sequence_length=MAX_TOKENS
)

#: Protocol of the published table (arXiv 2604.12617): 512 pixels, guidance 4.5, 40 steps, and bf16
#: from the command in HY-SOAR's README. The rest comes from DiffusionNFT's evaluation script, on
#: which HY-SOAR's is based: it sets no number of tokens, so the pipeline's default of 256 holds,
#: and its VAE has float32 weights. It calls the pipeline under autocast, though, which computes
#: the VAE's convolutions in bfloat16.
SOAR_PAPER_PROTOCOL = Protocol(
    "soar-paper", steps=40, guidance=4.5, resolution=512, max_sequence_length=256, dtype="bfloat16"
)

#: Defaults of djghosh13/geneval's generation/diffusers_generate.py, which loads the whole pipeline
#: in float16 and passes no size. Its models read 77 tokens; a pipeline with a T5 encoder gets
#: Stable Diffusion 3's default of 256.
GENEVAL_OFFICIAL_PROTOCOL = Protocol(
    "geneval-official", 50, 9.0, None, max_sequence_length=256, dtype="float16", vae_dtype="float16"
)

#: Evaluation in yifan123/flow_grpo's scripts/train_sd3.py with its configurations for SD3.5-M
#: (config/grpo.py; fp16 from config/base.py). The text encoders are cast to float16, the
#: transformer computes under float16 autocast over float32 weights, the VAE is left in float32.
FLOW_GRPO_PROTOCOL = Protocol(
    "flow-grpo", steps=40, guidance=4.5, resolution=512, max_sequence_length=128, dtype="float16"
)

#: The published number of SD3.5-M on GenEval 2: 512 pixels, 40 steps, no guidance. The paper does
#: not say precision and tokens.
GENEVAL2_PROTOCOL = Protocol(
    "geneval2-512", steps=40, guidance=1.0, resolution=512, max_sequence_length=256,
    dtype="bfloat16",
)  # fmt: skip

#: GenEval 2 at the size and guidance that SD3.5-M was made for, as others have measured it.
GENEVAL2_1024_PROTOCOL = Protocol(
    "geneval2-1024", steps=28, guidance=7.0, resolution=1024, max_sequence_length=256,
    dtype="bfloat16",
)  # fmt: skip

#: DPG-Bench asks for four images per prompt and says nothing else: size, steps and guidance are
#: those of SD3.5-M's model card.
DPG_PROTOCOL = Protocol(
    "dpg-1024", steps=40, guidance=4.5, resolution=1024, max_sequence_length=256, dtype="bfloat16"
)

_NAMED = (
    SHAPES_PROTOCOL, SOAR_PAPER_PROTOCOL, GENEVAL_OFFICIAL_PROTOCOL, FLOW_GRPO_PROTOCOL,
    GENEVAL2_PROTOCOL, GENEVAL2_1024_PROTOCOL, DPG_PROTOCOL,
)  # fmt: skip
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _NAMED}

#: Where each protocol comes from, for tables.
ABOUT: dict[str, str] = {
    "shapes": "the embedded world's base",
    "soar-paper": "the table of the SOAR paper, arXiv 2604.12617",
    "geneval-official": "GenEval's own generation script, at the pipeline's own size",
    "flow-grpo": "Flow-GRPO's evaluation during training, SD3.5-M",
    "geneval2-512": "the published GenEval 2 of SD3.5-M, without guidance",
    "geneval2-1024": "GenEval 2 at 1024 pixels with guidance 7 in 28 steps",
    "dpg-1024": "DPG-Bench at 1024 pixels with the settings of SD3.5-M's model card",
}

#: Default protocol of each named suite.
DEFAULT_PROTOCOL: dict[str, str] = {
    **dict.fromkeys(SUITES, SHAPES_PROTOCOL.name),
    **dict.fromkeys(FETCHED, SOAR_PAPER_PROTOCOL.name),
    "geneval2": GENEVAL2_PROTOCOL.name,
    "dpg": DPG_PROTOCOL.name,
}

#: Every setting, in the order of tables.
SETTINGS = tuple(f.name for f in fields(Protocol) if f.name != "name")
_LEAST = {"steps": 1, "resolution": 8, "max_sequence_length": 1}
_CHOICES = {"dtype": PRECISIONS, "vae_dtype": PRECISIONS, "noise": ("philox-1",)}


def default_protocol(suite: Suite) -> Protocol:
    """Return a suite's default protocol: for a file the paper's, or the embedded world's if its
    evaluator judges it.
    """
    if suite.source:
        return SHAPES_PROTOCOL if "shapes-geneval" in suite.evaluators else SOAR_PAPER_PROTOCOL
    return PROTOCOLS[DEFAULT_PROTOCOL.get(whole_name(suite.name)[0], SOAR_PAPER_PROTOCOL.name)]


def get_protocol(name: str) -> Protocol:
    """Return a protocol by name, as ``soar-paper+steps=20+guidance=7``.

    SoarBenchError for an unknown protocol, setting or value.
    """
    base, *changes = re.split(r"\+(?=[^+=]*=)", name)  # not the plus of a number such as 1e+02
    if base not in PROTOCOLS:
        raise unknown_name("protocol", base, list(PROTOCOLS))
    settings: dict[str, Any] = {}
    for change in changes:
        key, _, text = change.partition("=")
        if key in settings:
            raise SoarBenchError(f"the protocol {name!r} sets {key} twice")
        _check_name(key)
        settings[key] = _parse(key, text)
    return override(PROTOCOLS[base], **settings)


def override(protocol: Protocol, **changes: Any) -> Protocol:
    """Return a protocol with other settings, which its name lists; None changes nothing.

    The name does not depend on the order of changes. SoarBenchError for a wrong setting or value.
    """
    settings = {key: check(key, value) for key, value in changes.items() if value is not None}
    base = PROTOCOLS.get(protocol.name.split("+")[0])
    if base is None or base.name == protocol.name:
        return protocol.override(**settings)
    return base.override(**{**protocol.settings(), **settings})


def sweep(
    protocol: Protocol, steps: Sequence[int] = (), guidance: Sequence[float] = (), **overrides: Any
) -> list[Protocol]:
    """Return a protocol for every number of steps with every guidance, each protocol once.

    No steps or no guidance means the protocol's own. ``overrides`` hold for all of them.
    """
    protocols = [
        override(protocol, **overrides, steps=s, guidance=g)
        for s in steps or (protocol.steps,)
        for g in guidance or (protocol.guidance,)
    ]
    return list(dict.fromkeys(protocols))


def from_settings(name: str, settings: Mapping[str, Any]) -> Protocol:
    """Return a record's protocol. SoarBenchError names a setting that is missing or not allowed."""
    missing = [key for key in SETTINGS if key not in settings]
    if missing:
        raise SoarBenchError(f"the protocol {name!r} lacks {', '.join(missing)}")
    unknown = [key for key in settings if key not in SETTINGS]
    if unknown:
        raise SoarBenchError(
            f"the protocol {name!r} has settings that this soar-bench does not know: "
            f"{', '.join(unknown)}"
        )
    return Protocol(name=name, **{key: check(key, value) for key, value in settings.items()})


def check(setting: str, value: Any) -> Any:
    """Return a setting's value in the type of the protocol. SoarBenchError if it is not allowed."""
    _check_name(setting)
    if setting == "resolution" and value is None:
        return None
    if setting in _CHOICES:
        if value not in _CHOICES[setting]:
            raise SoarBenchError(f"{setting} is {', '.join(_CHOICES[setting])}; not {value!r}")
        return str(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    number = number and math.isfinite(value)
    if setting == "guidance":
        if not number or value < 0:
            raise SoarBenchError(f"guidance is a number from 0, where 1 is none; not {value!r}")
        return float(value)
    if not number or value != int(value) or value < _LEAST[setting]:
        raise SoarBenchError(f"{setting} is a whole number from {_LEAST[setting]}; not {value!r}")
    return int(value)


def _check_name(setting: str) -> None:
    if setting not in SETTINGS:
        raise unknown_name("setting of a protocol", setting, list(SETTINGS))


def _parse(setting: str, text: str) -> Any:
    if setting in _CHOICES:
        return text
    try:
        return float(text) if setting == "guidance" else int(text)
    except ValueError:
        return text
