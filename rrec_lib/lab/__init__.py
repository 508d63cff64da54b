"""The lab: a generated world in which the value of reasoning is known by construction, and RecPO with every knob."""

from rrec_lib.lab.settings import CONDITIONS, LAB_ABLATIONS, LAB_ARMS, LAB_WAYS, LabConfig, LabRun
from rrec_lib.lab.train import run_arm, run_silent, taught_model
from rrec_lib.lab.world import World, make_world

__all__ = [
    "CONDITIONS", "LAB_ABLATIONS", "LAB_ARMS", "LAB_WAYS", "LabConfig", "LabRun", "World", "make_world", "run_arm",
    "run_silent", "taught_model",
]  # fmt: skip
