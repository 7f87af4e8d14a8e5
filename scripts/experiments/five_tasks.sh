#!/usr/bin/env bash
# The method on five tasks at one small budget, with nnU-Net's own commands: stock, teacher and student, within the
# training set and, where a task has a second set, across. docs/tasks/README.md has the result.
#
#     bash scripts/experiments/five_tasks.sh prepare DATA OUT          convert, plan, preprocess
#     bash scripts/experiments/five_tasks.sh train   OUT SEED [TASK…]  three networks a task; a finished one is skipped
#     bash scripts/experiments/five_tasks.sh judge   OUT SEED [TASK…]  predict, evaluate, compare
#
# DATA holds acdc/training/patientXXX and acdc/split/{train,val}.json, cardiac_sunnybrook/{images,labels}, and images/ and
# masks/ of abdomen_ct_curvas, fundus_drishtigs, polyp_kvasir, polyp_colondb and breast_us_busi.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tasks=(cardiac fundus polyp breast abdomen)

command=$1
shift
if [ "$command" = prepare ]; then
    data=$(realpath "$1")
    shift
fi
mkdir -p "$1"
out=$(realpath "$1")
shift
export nnUNet_raw=$out/raw nnUNet_preprocessed=$out/preprocessed nnUNet_compile=f
export nnUNet_def_n_proc=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
nnUNet_extTrainer="$(shapekd trainers):$here/trainers"
export nnUNet_extTrainer
device=$(python -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')

describe() { # the task's dataset id, the datasets to predict, options for judging
    case $1 in
    cardiac) dataset=60 judged=(60 61) options=(--leave-out RV --ignore-channel-names) ;;
    fundus) dataset=62 judged=(62) options=() ;;
    polyp) dataset=63 judged=(63 64) options=() ;;
    breast) dataset=65 judged=(65) options=() ;;
    abdomen) dataset=66 judged=(66) options=() ;;
    *) echo "unknown task $1; there are ${tasks[*]}" >&2 && exit 1 ;;
    esac
}

images() { # images FOLDER ID NAME OPTION…
    shapekd convert images "$data/$1/images" "$data/$1/masks" -d "$2" --name "$3" "${@:4}"
}

sunnybrook() { # stacks for prediction only
    local folder=$nnUNet_raw/Dataset061_Sunnybrook
    mkdir -p "$folder/imagesTs" "$folder/labelsTs"
    for image in "$data"/cardiac_sunnybrook/images/*.nii.gz; do
        cp "$image" "$folder/imagesTs/$(basename "$image" .nii.gz)_0000.nii.gz"
    done
    cp "$data"/cardiac_sunnybrook/labels/*.nii.gz "$folder/labelsTs"
    echo '{"channel_names": {"0": "cineMRI"}, "labels": {"background": 0, "MYO": 2, "LV": 3}, "numTraining": 0, "file_ending": ".nii.gz"}' >"$folder/dataset.json"
}

plan() { # plan ID OPTION… of small_plans.py
    (($1 == 60)) && local preprocess=(-c 2d) || local preprocess=(--no_pp)
    export nnUNet_n_proc_DA=1 # planning wants one
    nnUNetv2_plan_and_preprocess -d "$1" "${preprocess[@]}" -np 1 -npfp 1
    python "$here/../small_plans.py" -d "$1" --name smallPlans --patch 128 128 --batch 4 --features 12 24 48 96 128 "${@:2}"
    (($1 == 60)) || nnUNetv2_preprocess -d "$1" -plans_name smallPlans -c 2d -np 1
}

prepare() {
    mkdir -p "$nnUNet_raw" "$nnUNet_preprocessed"
    shapekd convert acdc "$data/acdc/training" -d 60 --train "$data/acdc/split/train.json" --val "$data/acdc/split/val.json"
    sunnybrook
    images fundus_drishtigs 62 DrishtiGS --labels disc:1,2 cup:2
    images polyp_kvasir 63 Kvasir --labels polyp:1
    images polyp_colondb 64 ColonDB --labels polyp:1
    images breast_us_busi 65 BUSI --labels tumour:1 --stratum '^(benign|malignant)' --alike 0.97
    images abdomen_ct_curvas 66 CURVAS --labels pancreas:1 kidney:2 liver:3 --group '^(\d+)_'
    plan 60
    plan 62 --spacing 3.2 3.2
    for dataset in 63 65; do plan $dataset --spacing 4 4; done
    plan 66 --spacing 3 3
}

model() { echo "$nnUNet_results/$(cd "$nnUNet_raw" && echo Dataset0"$dataset"_*)/$1__smallPlans__2d"; }

train() {
    for trainer in nnUNetTrainer_Seeded nnUNetTrainerMeanImage_Seeded nnUNetTrainerShapeKD_Seeded; do
        local finished
        finished=$(model $trainer)/fold_0/finished
        [ -e "$finished" ] && continue
        local started=$SECONDS
        echo "seed $EXPERIMENT_SEED $1 $trainer"
        nnUNetv2_train "$dataset" 2d 0 -tr $trainer -p smallPlans -device "$device" --c >"$logs/$1_$trainer.log" 2>&1
        echo "$((SECONDS - started)) s, $(nproc) cores, $device" >"$finished"
    done
}

judge() {
    shapekd cross "$(model nnUNetTrainerShapeKD_Seeded)" "${judged[@]}" --baseline "$(model nnUNetTrainer_Seeded)" \
        --names stock student -f 0 --disable_tta -device "$device" -o "$out/judged/seed$EXPERIMENT_SEED/$1" "${options[@]}"
}

if [ "$command" = prepare ]; then
    prepare
    exit
fi
export EXPERIMENT_SEED=$1 nnUNet_n_proc_DA=0 # pairs by seed: no other process draws the patches
shift
export nnUNet_results=$out/results/seed$EXPERIMENT_SEED
logs=$out/logs/seed$EXPERIMENT_SEED
mkdir -p "$nnUNet_results" "$logs" "$out/judged/seed$EXPERIMENT_SEED"
[ $# -gt 0 ] && tasks=("$@")
for task in "${tasks[@]}"; do
    describe "$task"
    "$command" "$task"
done
