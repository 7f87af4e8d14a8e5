#!/usr/bin/env bash
# Trains teacher and student of all folds on the GPUs of one machine; --help says how.
set -euo pipefail

usage() {
    cat <<'END'
usage: bash crossval.sh DATASET CONFIG [--gpus "0 1"] [--folds "0 1 2 3 4"] [--logs FOLDER] [-- OPTIONS]

Trains teacher and student of every fold: `shapekd train DATASET CONFIG FOLD --npz --c OPTIONS`. Each GPU takes the next
fold as soon as it is free. Run it again to go on after an interruption: what is finished is left as it is, and what is
missing of a student's validation or its probabilities is made. A fold that fails does not stop the others. Ctrl-C stops
all.

  --gpus    GPUs to use, as in CUDA_VISIBLE_DEVICES, or cpu: one fold after the other on the CPU
            (default: CUDA_VISIBLE_DEVICES if set, else all that nvidia-smi lists, else cpu)
  --folds   folds to train (default: those of the dataset's splits_final.json)
  --logs    folder of the logs, one file a fold, to which a later run appends (default: shapekd_logs)
  OPTIONS   for shapekd train, for example: -- -tr nnUNetTrainerShapeKD_250epochs -p nnUNetResEncUNetMPlans
END
}

fail() {
    echo "crossval.sh: $*" >&2
    exit 1
}

arguments=() options=() gpus="" folds="" logs=shapekd_logs
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --gpus | --folds | --logs)
            [ $# -ge 2 ] || fail "$1 needs a value"
            printf -v "${1#--}" %s "$2"
            shift 2
            ;;
        --) shift; options=("$@"); break ;;
        -*) fail "unknown option $1; options for shapekd train go after --" ;;
        *) arguments+=("$1"); shift ;;
    esac
done
[ ${#arguments[@]} -eq 2 ] || { usage >&2; exit 1; }
dataset=${arguments[0]} configuration=${arguments[1]}
command -v shapekd >/dev/null || fail "shapekd is not found: activate the environment in which nnunet_shapekd is installed"

if [ -z "$gpus" ]; then
    if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
        gpus=${CUDA_VISIBLE_DEVICES:-cpu} # empty: all GPUs are hidden
    else
        gpus=$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | tr '\n' ' ') || gpus=""
        gpus=${gpus:-cpu}
    fi
fi
if [ -z "$folds" ]; then
    case $dataset in
        Dataset*) name=$dataset ;;
        *[!0-9]*) fail "DATASET must be nnU-Net's dataset id or name, like 27 or Dataset027_ACDC; got $dataset" ;;
        *) name=$(printf 'Dataset%03d_*' "$((10#$dataset))") ;;
    esac
    number=0
    # the name is a pattern where only the id was given
    for file in "${nnUNet_preprocessed:-}"/$name/splits_final.json; do
        [ ! -f "$file" ] || number=$({ grep -o '"train"' "$file" || true; } | wc -l)
    done
    # nnU-Net would make one by case, and several trainings at once would fight over it
    [ "$number" -gt 0 ] || fail "$name has no splits_final.json in nnUNet_preprocessed=${nnUNet_preprocessed:-}: write \
folds by patient there (shapekd convert does), or name the --folds of nnU-Net's own after training one of them"
    for ((fold = 0; fold < number; fold++)); do folds+="$fold "; done
fi
mkdir -p "$logs"

# the queue: a pipe that holds the name of every free GPU
queue=$(mktemp -d)
mkfifo "$queue/free"
exec 3<>"$queue/free"
rm -r "$queue"
for gpu in ${gpus//,/ }; do echo "$gpu" >&3; done

train_fold() { # fold gpu
    local device=cuda child status=0
    [ "$2" != cpu ] || device=cpu
    # before anything is started, so that no signal finds a training without a guard
    trap 'stopped=1; [ -z "${child:-}" ] || kill -TERM "$child" 2>/dev/null' TERM
    CUDA_VISIBLE_DEVICES=${2#cpu} shapekd train "$dataset" "$configuration" "$1" --npz --c -device "$device" \
        ${options[@]+"${options[@]}"} >>"$logs/fold_$1.log" 2>&1 3>&- &
    child=$!
    [ -z "${stopped:-}" ] || kill -TERM "$child" 2>/dev/null
    # a signal ends a wait, not the child, which takes its time to stop what it has started
    wait "$child" || status=$?
    while kill -0 "$child" 2>/dev/null; do wait "$child" || status=$?; done
    echo "$2" >&3
    return "$status"
}

pids=() started=()
stop() {
    trap '' INT TERM HUP
    echo "crossval.sh: interrupted, stopping ${#pids[@]} fold(s)" >&2
    kill -TERM ${pids[@]+"${pids[@]}"} 2>/dev/null || true
    wait
    exit 130
}
trap stop INT TERM HUP

for fold in $folds; do
    read -r gpu <&3
    echo "fold $fold on $([ "$gpu" = cpu ] && echo "the CPU" || echo "GPU $gpu"), log in $logs/fold_$fold.log"
    train_fold "$fold" "$gpu" &
    pids+=($!) started+=("$fold")
done
failed=()
for i in ${pids[@]+"${!pids[@]}"}; do
    wait "${pids[$i]}" || failed+=("${started[$i]}")
done
if [ ${#failed[@]} -gt 0 ]; then
    for fold in "${failed[@]}"; do echo "fold $fold FAILED, see $logs/fold_$fold.log:"; tail -n 3 "$logs/fold_$fold.log"; done
    fail "failed: fold ${failed[*]}. When that is mended, the same command goes on where it stopped."
fi
echo "all folds are finished: ${started[*]}"
