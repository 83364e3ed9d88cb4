"""Sizes and values in small files: nothing is allocated for what the bytes do not justify."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import sparl
from resuming import stopped_at
from sparl import _native
from sparl.cli import main
from sparl.errors import DataError, UsageError
from sparl.methods import architecture, preset
from sparl.sparse.pattern import Pattern
from sparl.training.agent_file import load_agent
from sparl.training.tensors import digest, pack
from test_hostile_files import CHECKPOINT, FIELDS, rejected_in_one_line, sign_agent, sign_checkpoint
