"""Write smaller 2d plans beside nnU-Net's, for computers without a GPU.

    python scripts/small_plans.py -d 27 --name smallPlans --patch 144 144 --batch 8 --features 16 32 64 128 192

Train with ``-p smallPlans``. The preprocessed data stay nnU-Net's own; only patch, batch and network shrink. With
``--spacing 4 4`` the images are made smaller, too (pixels of the images' unit, rows and columns), and then want
``nnUNetv2_preprocess -d 27 -plans_name smallPlans -c 2d``.
"""

import argparse
import json
import os
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", type=int, required=True, help="dataset id; planned with nnUNetv2_plan_and_preprocess")
    parser.add_argument("--name", required=True, help="name of the new plans")
    parser.add_argument("--patch", type=int, nargs=2, required=True, help="patch size")
    parser.add_argument("--batch", type=int, required=True, help="batch size")
    parser.add_argument("--features", type=int, nargs="+", required=True, help="feature maps of each stage")
    parser.add_argument("--spacing", type=float, nargs=2, help="resample to this spacing")
    args = parser.parse_args()

    preprocessed = os.environ.get("nnUNet_preprocessed")
    if not preprocessed:
        parser.error("nnUNet_preprocessed is not set")
    found = sorted(Path(preprocessed).glob(f"Dataset{args.d:03d}_*/nnUNetPlans.json"))
    if not found:
        parser.error(f"dataset {args.d} is not planned: nnUNetv2_plan_and_preprocess -d {args.d} -c 2d")
    plans = json.loads(found[0].read_text())
    plans["plans_name"] = args.name
    configuration = plans["configurations"]["2d"]
    configuration["patch_size"] = args.patch
    configuration["batch_size"] = args.batch
    if args.spacing:
        configuration["spacing"] = args.spacing
        configuration["data_identifier"] = f"{args.name}_2d"
    network = configuration["architecture"]["arch_kwargs"]
    n_stages = len(args.features)
    if n_stages > network["n_stages"]:
        parser.error(f"the planned network has {network['n_stages']} stages; got {n_stages} --features")
    network["n_stages"] = n_stages
    network["features_per_stage"] = args.features
    for key in ("kernel_sizes", "strides", "n_conv_per_stage"):
        network[key] = network[key][:n_stages]
    network["n_conv_per_stage_decoder"] = network["n_conv_per_stage_decoder"][: n_stages - 1]
    if any(size % 2 ** (n_stages - 1) for size in args.patch):
        parser.error(f"{n_stages} stages need a patch divisible by {2 ** (n_stages - 1)}; got {args.patch}")
    found[0].with_name(f"{args.name}.json").write_text(json.dumps(plans, indent=4) + "\n")


if __name__ == "__main__":
    main()
