#!/usr/bin/env bash
# Submits teachers and students of all folds to SLURM as two job arrays; --help says how.
set -euo pipefail

usage() {
    cat <<'END'
usage: bash slurm_crossval.sh DATASET CONFIG [--folds 0-4] [--logs FOLDER] [--sbatch OPTION]... [-- OPTIONS]

Submits two job arrays: the teachers of all folds, and their students, each of which waits for the teacher of its own
fold. Submit from the environment in which nnunet_shapekd is installed and nnU-Net's variables are set; the jobs inherit
it. Run it again to go on after failures: folds that are finished end at once, the others continue.

  --folds   the array's indices in SLURM's words, like 0-4 or 0,3 (default: 0-4)
  --logs    folder of the logs, on a file system that the nodes share (default: shapekd_logs)
  --sbatch  an option for sbatch, repeated for several: --sbatch --partition=gpu --sbatch --time=2-00:00:00
            Defaults, each of which an own one overrides: --gres=gpu:1 --cpus-per-task=12 (nnU-Net's own number of
            augmentation workers) --requeue
  OPTIONS   for shapekd train, for example: -- -tr nnUNetTrainerShapeKD_250epochs -p nnUNetResEncUNetMPlans
END
}

fail() {
    echo "slurm_crossval.sh: $*" >&2
    exit 1
}

arguments=() options=() sbatch_options=() folds=0-4 logs=shapekd_logs
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --folds | --logs)
            [ $# -ge 2 ] || fail "$1 needs a value"
            printf -v "${1#--}" %s "$2"
            shift 2
            ;;
        --sbatch)
            [ $# -ge 2 ] || fail "$1 needs a value"
            sbatch_options+=("$2")
            shift 2
            ;;
        --) shift; options=("$@"); break ;;
        -*) fail "unknown option $1; options for sbatch go after --sbatch, those for shapekd train after --" ;;
        *) arguments+=("$1"); shift ;;
    esac
done
[ ${#arguments[@]} -eq 2 ] || { usage >&2; exit 1; }
command -v shapekd >/dev/null || fail "shapekd is not found: activate the environment in which nnunet_shapekd is installed"
command -v sbatch >/dev/null || fail "sbatch is not found: submit from a node of a SLURM cluster"
mkdir -p "$logs"
logs=$(CDPATH= cd -- "$logs" && pwd)

submit() { # teacher|student, further options for sbatch -> job id
    local role=$1 command
    shift
    command=$(printf '%q ' shapekd train "${arguments[@]}")
    command+='"$SLURM_ARRAY_TASK_ID" --only '$role' --c'
    [ "$role" = teacher ] || command+=' --npz'
    [ ${#options[@]} -eq 0 ] || command+=$(printf ' %q' "${options[@]}")
    # a requeued job appends to its log
    printf '#!/usr/bin/env bash\nexec %s\n' "$command" | sbatch --parsable --job-name="shapekd-$role" \
        --array="$folds" --gres=gpu:1 --cpus-per-task=12 --requeue --export=ALL --open-mode=append \
        --output="$logs/%x_%A_%a.log" "$@" ${sbatch_options[@]+"${sbatch_options[@]}"}
}

teachers=$(submit teacher)
teachers=${teachers%%;*} # on a cluster of several: id;cluster
echo "teachers: job $teachers, folds $folds"
# the n-th student starts when the n-th teacher has succeeded, and does not wait in vain for one that failed
students=$(submit student --dependency="aftercorr:$teachers" --kill-on-invalid-dep=yes) ||
    fail "the students were not submitted (see above); the teachers were, as job $teachers. Run this again for the rest"
echo "students: job ${students%%;*}, each after the teacher of its fold"
echo "logs: $logs"
