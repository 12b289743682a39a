"""Fixtures: GenEval's evaluators over the painted detector."""

from __future__ import annotations

import pytest
from painted import Painted

from evaluators.catalogue import CLIP_VIT_L_14
from evaluators.geneval.evaluator import OFFICIAL, GenEval
from evaluators.golden.clip import EMBEDDING, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder)
    return CLIP_VIT_L_14.at(folder)


@pytest.fixture()
def make(clip):
    def make(protocol=OFFICIAL, detector=None, **more):
        evaluator = GenEval(
            detector or Painted(), protocol=protocol, clip=clip, embedding=EMBEDDING, **more
        )
        evaluator.check()
        evaluator.load()
        return evaluator

    return make
