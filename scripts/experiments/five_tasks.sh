#!/usr/bin/env bash
# The method on five tasks at one small budget, with nnU-Net's own commands: stock, and teacher and student or, with
# EXPERIMENT_MODEL=moves or mean-jitter, a network of moved intensities; within the training set and, where a task has a
# second set, across. docs/tasks/README.md has the result.
#
#     bash scripts/experiments/five_tasks.sh prepare DATA OUT          convert, plan, preprocess; what is there is kept
#     bash scripts/experiments/five_tasks.sh train   OUT SEED [TASK…]  the networks of a task; finished ones are skipped
#     bash scripts/experiments/five_tasks.sh judge   OUT SEED [TASK…]  predict, evaluate, compare
#
# Tasks: cardiac fundus polyp breast abdomen. DATA holds acdc/training/patientXXX and acdc/split/{train,val}.json,
# cardiac_sunnybrook/{images,labels}, and images/ and masks/ of abdomen_ct_curvas, fundus_drishtigs, polyp_kvasir,
# polyp_colondb and breast_us_busi. On a CPU stock and student of one seed see the same patches in the same order; moves
# draw numbers of their own, so that there only the weights begin alike. EXPERIMENT_EPOCHS are of 50 steps (by default 15).
# EXPERIMENT_BFLOAT16=1 trains on one core of a CPU, and in less than half of the time.
set -euo pipefail

usage() {
    sed -n '2,15s/^#\( \|$\)//p' "$0" >&2
    exit 2
}

fail() {
    echo "$*" >&2
    exit 1
}

describe() { # the task's dataset id, the datasets to predict, options for judging
    case $1 in
    cardiac) dataset=60 judged=(60 61 --leave-out RV --ignore-channel-names) ;;
    fundus) dataset=62 judged=(62) ;;
    polyp) dataset=63 judged=(63 64) ;;
    breast) dataset=65 judged=(65) ;;
    abdomen) dataset=66 judged=(66) ;;
    *) fail "unknown task $1; there are cardiac fundus polyp breast abdomen" ;;
    esac
}

folder_of() { # folder_of ID: its name in nnUNet_raw
    local found=("$nnUNet_raw/Dataset0$1"_*)
    [ -d "${found[0]}" ] || fail "dataset $1 is not in $nnUNet_raw: run prepare first"
    basename "${found[0]}"
}

convert() { # convert SET ID OPTION…: unless it is there
    compgen -G "$nnUNet_raw/Dataset0$2_*" >/dev/null || shapekd convert "$1" "${@:3}" -d "$2"
}

images() { # images FOLDER ID NAME OPTION…
    convert images "$2" "$data/$1/images" "$data/$1/masks" --name "$3" "${@:4}"
}

sunnybrook() { # stacks for prediction only
    local folder=$nnUNet_raw/Dataset061_Sunnybrook
    mkdir -p "$folder/imagesTs" "$folder/labelsTs"
    for image in "$data"/cardiac_sunnybrook/images/*.nii.gz; do
        cp "$image" "$folder/imagesTs/$(basename "$image" .nii.gz)_0000.nii.gz"
    done
    cp "$data"/cardiac_sunnybrook/labels/*.nii.gz "$folder/labelsTs"
    echo '{"channel_names": {"0": "cineMRI"}, "labels": {"background": 0, "MYO": 2, "LV": 3}, "numTraining": 0,' \
        '"file_ending": ".nii.gz"}' >"$folder/dataset.json"
}

plan() { # plan ID OPTION… of small_plans.py
    local folder spacing=${2:-}
    folder=$nnUNet_preprocessed/$(folder_of "$1")
    [ -e "$folder/prepared" ] && return
    # another spacing has preprocessed data of its own
    nnUNetv2_plan_and_preprocess -d "$1" -c 2d -np 1 -npfp 1 ${spacing:+--no_pp}
    python "$here/../small_plans.py" -d "$1" --name smallPlans --patch 128 128 --batch 4 \
        --features 12 24 48 96 128 "${@:2}"
    [ -z "$spacing" ] || nnUNetv2_preprocess -d "$1" -plans_name smallPlans -c 2d -np 1
    touch "$folder/prepared"
}

prepare() {
    convert acdc 60 "$data/acdc/training" --train "$data/acdc/split/train.json" --val "$data/acdc/split/val.json"
    sunnybrook
    images fundus_drishtigs 62 DrishtiGS --labels disc:1,2 cup:2
    images polyp_kvasir 63 Kvasir --labels polyp:1
    images polyp_colondb 64 ColonDB --labels polyp:1
    images breast_us_busi 65 BUSI --labels tumour:1 --stratum '^(benign|malignant)' --alike 0.97
    images abdomen_ct_curvas 66 CURVAS --labels pancreas:1 kidney:2 liver:3 --group '^(\d+)_'
    plan 60
    plan 62 --spacing 3.2 3.2
    plan 63 --spacing 4 4
    plan 65 --spacing 4 4
    plan 66 --spacing 3 3
}

model() { # model TRAINER: its folder
    local name
    name=$(folder_of "$dataset") || return
    echo "$nnUNet_results/$name/$1__smallPlans__2d"
}

train() { # train TASK
    local trainer folder log started
    for trainer in nnUNetTrainer_Seeded "${trainers[@]}"; do
        folder=$(model $trainer) log=$logs/$1_$trainer.log started=$SECONDS
        [ -e "$folder/fold_0/finished" ] && continue
        echo "seed $EXPERIMENT_SEED $1 $trainer (its output: $log)"
        nnUNetv2_train "$dataset" 2d 0 -tr $trainer -p smallPlans -device "$device" --c >>"$log" 2>&1 || {
            tail -n 20 "$log" >&2
            fail "$1 $trainer failed; its whole output: $log"
        }
        echo "$((SECONDS - started)) s on $device" >"$folder/fold_0/finished"
    done
}

judge() { # judge TASK
    local stock other
    stock=$(model nnUNetTrainer_Seeded)
    other=$(model "${trainers[-1]}")
    shapekd cross "$other" "${judged[@]}" --baseline "$stock" --names stock "$compared" -f 0 --disable_tta \
        -device "$device" -o "$out/judged/$compared/seed$EXPERIMENT_SEED/$1"
}

here=$(cd "$(dirname "$0")" && pwd)
command=${1:-}
case $command in
prepare)
    [ $# -eq 3 ] || usage
    [ -d "$2" ] || fail "$2: no such folder"
    data=$(cd "$2" && pwd)
    shift
    ;;
train | judge)
    [ $# -ge 3 ] || usage
    ;;
*) usage ;;
esac
compared=${EXPERIMENT_MODEL-student}
case $compared in
student) trainers=(nnUNetTrainerMeanImage_Seeded nnUNetTrainerShapeKD_Seeded) ;;
moves) trainers=(nnUNetTrainerIntensityMoves_Seeded) ;;
mean-jitter) trainers=(nnUNetTrainerMeanJitter_Seeded) ;;
*) fail "EXPERIMENT_MODEL=$compared: there are student, moves and mean-jitter" ;;
esac
for task in "${@:4}"; do describe "$task"; done # names are checked before anything begins
mkdir -p "$2"
out=$(cd "$2" && pwd)
export nnUNet_raw=$out/raw nnUNet_preprocessed=$out/preprocessed nnUNet_compile=f nnUNet_def_n_proc=1
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive nnUNet_n_proc_DA=1 # planning wants one
mkdir -p "$nnUNet_raw" "$nnUNet_preprocessed"
if [ "$command" = prepare ]; then
    prepare
    exit
fi
export EXPERIMENT_SEED=$3 nnUNet_n_proc_DA=0 # pairs by seed: no other process draws the patches
export nnUNet_results=$out/results/seed$3
[ "$compared" != student ] || export SHAPEKD_RAMP=${SHAPEKD_RAMP-0} # as in the tables
nnUNet_extTrainer="$(shapekd trainers):$here/trainers"
export nnUNet_extTrainer
device=$(python -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')
logs=$out/logs/seed$3
mkdir -p "$nnUNet_results" "$logs" "$out/judged/$compared/seed$3"
shift 3
[ $# -gt 0 ] || set -- cardiac fundus polyp breast abdomen
for task; do
    describe "$task"
    "$command" "$task"
done
