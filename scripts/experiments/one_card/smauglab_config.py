"""A configuration of SmaugLab's for two axes: its own for the CPU, with the geometry that all runs here have.

    pip install smauglab "kornia<0.9"      # GPL: in an environment of the experiment's own, never a dependency
    python scripts/experiments/one_card/smauglab_config.py CONFIG.json
    SMAUGLAB_PARAMS_JSON=CONFIG.json python scripts/experiments/one_card/train.py ...

Its defaults for the GPU want volumes. Its own for the CPU mirror three axes and neither turn nor scale.
"""

import json
import sys
from importlib.resources import files
from pathlib import Path

config = json.loads((files("smauglab.configs") / "transform_params.json").read_text())
del config["CPU"]["MirrorTransform"]
config["CPU"]["SpatialTransform"] |= {"p_rotation": 0.2, "p_scaling": 0.2}  # nnU-Net's
Path(sys.argv[1]).write_text(json.dumps(config, indent=4))
