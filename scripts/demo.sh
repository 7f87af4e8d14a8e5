#!/usr/bin/env bash
# The whole method on a synthetic heart, with nnU-Net's own commands: stock baseline, teacher and student are trained on
# one scanner and judged on another. Run it again after an interruption: it picks up where it was.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

demo=$PWD/demo
export nnUNet_raw=$demo/raw nnUNet_preprocessed=$demo/preprocessed nnUNet_results=$demo/results
nnUNet_extTrainer="$(shapekd trainers):$PWD/scripts/demo_trainers"
export nnUNet_extTrainer
# small networks: more worker processes, or compiling, would cost more than they bring
export nnUNet_n_proc_DA=2 nnUNet_def_n_proc=2 nnUNet_compile=f OMP_NUM_THREADS=1
mkdir -p "$nnUNet_raw" "$nnUNet_preprocessed" "$nnUNet_results" "$demo/logs"
device=$(python -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')
started=$SECONDS
echo "Everything is written below $demo; delete that folder to start anew."

step() { # step NAME COMMAND...: runs the command once; its output goes to a log
    local name=$1
    shift
    [ -e "$demo/logs/$name.done" ] && return
    echo "[$((SECONDS - started)) s] $name (its output: $demo/logs/$name.log)"
    "$@" >"$demo/logs/$name.log" 2>&1 || {
        tail -n 20 "$demo/logs/$name.log"
        echo "$name failed; its whole output: $demo/logs/$name.log" >&2
        exit 1
    }
    touch "$demo/logs/$name.done"
}

phantom() { rm -rf "$demo/phantom_$1" "$demo/.phantom_$1"-* && shapekd phantom "$demo/phantom_$1" --scanner "$1" --patients 20 --test-patients 4; }

convert() { [ -d "$nnUNet_raw/Dataset$(printf %03d "$1")_$2" ] || shapekd convert acdc "$demo/phantom_$3" -d "$1" --name "$2"; }

train() { # --c starts anew where there is nothing to continue
    nnUNetv2_train 27 2d 0 -tr "$1" -p demoPlans -device "$device" --c
}

predict() { # predict TRAINER DATASET OUT
    nnUNetv2_predict -i "$nnUNet_raw/$2/imagesTs" -o "$3" -d 27 -c 2d -f 0 -tr "$1" -p demoPlans -device "$device" -npp 0 -nps 0 &&
        nnUNetv2_evaluate_folder "$nnUNet_raw/$2/labelsTs" "$3" -djfile "$3/dataset.json" -pfile "$3/plans.json"
}

fold() { echo "$nnUNet_results/Dataset027_PhantomA/$1__demoPlans__2d/fold_0"; }

step 01_phantom_scanner_a phantom a
step 02_phantom_scanner_b phantom b
step 03_convert_scanner_a convert 27 PhantomA a
step 04_convert_scanner_b convert 28 PhantomB b
step 05_plan_and_preprocess nnUNetv2_plan_and_preprocess -d 27 -c 2d -np 2 -npfp 2 --verify_dataset_integrity
step 06_small_plans python scripts/small_plans.py -d 27 --name demoPlans --patch 80 80 --batch 4 --features 16 32 64 96
step 07_train_baseline train nnUNetTrainer_Demo
step 08_train_teacher train nnUNetTrainerMeanImage_Demo
step 09_train_student train nnUNetTrainerShapeKD_Demo
for trainer in nnUNetTrainer_Demo nnUNetTrainerShapeKD_Demo; do
    for dataset in Dataset027_PhantomA Dataset028_PhantomB; do
        step "10_predict_${trainer}_$dataset" predict "$trainer" "$dataset" "$demo/predictions/$trainer/$dataset"
    done
done
for dataset in Dataset027_PhantomA Dataset028_PhantomB; do
    step "11_compare_$dataset" shapekd compare "$nnUNet_raw/$dataset/labelsTs" "$demo/predictions/nnUNetTrainer_Demo/$dataset" \
        "$demo/predictions/nnUNetTrainerShapeKD_Demo/$dataset" --names stock student -o "$demo/comparison/$dataset"
    step "12_report_$dataset" shapekd report "$demo/comparison/$dataset" -o "$demo/report/$dataset" \
        --run "stock=$(fold nnUNetTrainer_Demo)" --run "student=$(fold nnUNetTrainerShapeKD_Demo)"
done
python scripts/demo_result.py "$demo"
echo "Pages to open: $demo/report/*/index.html"
echo "Done in $((SECONDS - started)) s on $device."
