"""Diffusers pipeline folders: parts, settings, weight files, digests, checks and loading.

Used by evaluation and by training alike. Nothing here runs code that lies in a folder: classes come
from the installed diffusers and transformers alone. Importing the package imports no torch.
"""

from soar_bench.pipelines.folder import EMBEDDED, INDEX, Pipeline, digest_pipeline, pipeline_folder
from soar_bench.pipelines.models import check_pipeline

__all__ = ["EMBEDDED", "INDEX", "Pipeline", "check_pipeline", "digest_pipeline", "pipeline_folder"]
