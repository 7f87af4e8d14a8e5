#!/usr/bin/env bash
# The whole method on a synthetic heart, with nnU-Net's own commands: stock baseline, teacher, student and moves of
# intensities are trained on one scanner and judged there, on another scanner and on another sequence. Run it again after
# an interruption: it picks up where it was.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

demo=$PWD/demo
export nnUNet_raw=$demo/raw nnUNet_preprocessed=$demo/preprocessed nnUNet_results=$demo/results
nnUNet_extTrainer="$(shapekd trainers):$PWD/scripts/demo_trainers"
export nnUNet_extTrainer
# Small networks: worker processes and compiling would cost more than they bring. What runs side by side takes one core.
export nnUNet_n_proc_DA=1 nnUNet_def_n_proc=1 nnUNet_compile=f OMP_NUM_THREADS=1
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

dataset() { case $1 in a) echo Dataset027_PhantomA ;; b) echo Dataset028_PhantomB ;; c) echo Dataset029_PhantomC ;; esac; }

phantom() { rm -rf "$demo/phantom_$1" "$demo/.phantom_$1"-* && shapekd phantom "$demo/phantom_$1" --scanner "$1" --patients 20 --test-patients 10; }

convert() { # convert SCANNER ID
    [ -d "$nnUNet_raw/$(dataset "$1")" ] || shapekd convert acdc "$demo/phantom_$1" -d "$2" --name "$(dataset "$1" | cut -d_ -f2)"
}

train() { # --c starts anew where there is nothing to continue; 0: no process beside the training's (planning wants one)
    nnUNet_n_proc_DA=0 nnUNetv2_train 27 2d 0 -tr "$1" -p demoPlans -device "$device" --c
}

predict() { # predict TRAINER SCANNER
    nnUNetv2_predict -i "$nnUNet_raw/$(dataset "$2")/imagesTs" -o "$demo/predictions/$1/$2" -d 27 -c 2d -f 0 -tr "$1" \
        -p demoPlans -device "$device" -npp 0 -nps 0
}

train_and_predict() {
    step "05_train_$1" train "$1"
    for scanner in a b c; do step "06_predict_$1_$scanner" predict "$1" "$scanner"; done
}

teacher_and_student() {
    step 05_train_nnUNetTrainerMeanImage_Demo train nnUNetTrainerMeanImage_Demo
    train_and_predict nnUNetTrainerShapeKD_Demo
}

fold() { echo "$nnUNet_results/$(dataset a)/$1__demoPlans__2d/fold_0"; }

for scanner in a b c; do step "01_phantom_scanner_$scanner" phantom "$scanner"; done
step 02_convert_scanner_a convert a 27
step 02_convert_scanner_b convert b 28
step 02_convert_scanner_c convert c 29
step 03_plan_and_preprocess nnUNetv2_plan_and_preprocess -d 27 -c 2d -np 2 -npfp 2 --verify_dataset_integrity
step 04_small_plans python scripts/small_plans.py -d 27 --name demoPlans --patch 80 80 --batch 4 --features 16 32 64 96

set -m # what runs beside this script is a group of processes, which an interruption ends
trap 'for job in $(jobs -p); do kill -- "-$job" 2>/dev/null; done; wait' EXIT
train_and_predict nnUNetTrainer_Demo &
teacher_and_student &
train_and_predict nnUNetTrainerIntensityMoves_Demo &
set +m
failed=0
for job in $(jobs -p); do wait "$job" || failed=1; done
[ "$failed" = 0 ] || { echo "Run this again when that is mended: what is finished is kept." >&2; exit 1; }

for scanner in a b c; do
    step "07_compare_$scanner" shapekd compare "$nnUNet_raw/$(dataset "$scanner")/labelsTs" \
        "$demo"/predictions/nnUNetTrainer{,ShapeKD,IntensityMoves}_Demo/"$scanner" \
        --names stock student moves -o "$demo/comparison/$scanner"
    step "08_report_$scanner" shapekd report "$demo/comparison/$scanner" -o "$demo/report/$scanner" \
        --images "$nnUNet_raw/$(dataset "$scanner")/imagesTs" --run "stock=$(fold nnUNetTrainer_Demo)" \
        --run "student=$(fold nnUNetTrainerShapeKD_Demo)" --run "moves=$(fold nnUNetTrainerIntensityMoves_Demo)"
done
python scripts/demo_result.py "$demo"
echo "Page to open: $demo/index.html"
echo "Done in $((SECONDS - started)) s on $device."
