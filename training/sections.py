"""Sections of settings of the objectives beside SOAR, and what every section is built from.

A default is the published value where there is one; the docstring says where it comes from.
Imports no torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A group of settings; the docstring under each field is its help text."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Defar(Section):
    """DEFAR (arXiv 2606.28226), and ReflexFlow, its withdrawn form (arXiv 2512.04904)."""

    form: Literal["defar", "reflexflow"] = "defar"
    """`defar`: one step whose gradient is kept. `reflexflow`: several steps without gradient."""
    direction_weight: NotNegative = 1.0
    """Weight of the direction term (beta). 1 was not read in the paper; ReflexFlow's is 10."""
    compensation: NotNegative = 1.0
    """How strongly the bias weights flow matching (alpha). 0: not at all."""
    uniform_levels: bool = True
    """Draw noise levels uniformly, as published. false: as the section `noise` says."""
    rollout_steps: int = Field(default=40, ge=1)
    """Steps of the sampler of which ReflexFlow's rollout takes some."""
    max_offset: int = Field(default=10, ge=1)
    """Largest number of steps of ReflexFlow's rollout, drawn from 1 to this for each step."""

    @field_validator("rollout_steps", "max_offset")
    @classmethod
    def _has_an_effect(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a setting that would change nothing."""
        default = cls.model_fields[str(info.field_name)].default
        if value != default and info.data.get("form") == "defar":
            raise ValueError("only ReflexFlow's rollout uses it: set defar.form to reflexflow")
        return value
