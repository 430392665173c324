#!/bin/sh
# Kinds of hue labels against one-hot alone, trained from scratch: the paper's first version, figure 6. A night of two
# cores; goes on where it was stopped.
#
#     sh experiments/label_kinds_training.sh IMAGES RUNS [options of pyhue train, as --epochs 40 --seeds 0 1 2]
#
# Learning rate and weight decay are chosen before, for one-hot and for hue (circle) with as many trials each, on a fold
# of a seed that the comparison does not use.
set -eu
images=$1 runs=$2
shift 2

train() { # train NAME OPTION...
    name=$1
    shift
    pyhue train "$images" --out "$runs/$name" --backbone resnet18-w16 --image-size 64 --epochs 20 "$@"
}

# best LOSS: options of the trial with the highest accuracy
best() {
    for rate in 1e-3 3e-3 1e-2; do
        for decay in 0 0.01; do
            table=$runs/tune-$1-$rate-$decay/results.csv
            python -c "import csv, sys
print(next(csv.DictReader(open(sys.argv[1])))['accuracy'], *sys.argv[2:])" "$table" --lr $rate --weight-decay $decay
        done
    done | sort -n | tail -n 1 | cut -d ' ' -f 2-
}

for loss in onehot onehot+hue; do
    for rate in 1e-3 3e-3 1e-2; do
        for decay in 0 0.01; do
            train "tune-$loss-$rate-$decay" --hue-scale 1 "$@" --loss "$loss" --lr $rate --weight-decay $decay \
                --seeds 100 --folds-run 1
        done
    done
done
# shellcheck disable=SC2046  # several options
train onehot "$@" --loss onehot $(best onehot)
for kind in circle random uniform binary center; do
    # shellcheck disable=SC2046
    train "$kind" "$@" --hue-labels "$kind" --hue-scale 1 $(best onehot+hue)
done
pyhue compare "$runs/onehot" "$runs/circle" "$runs/random" "$runs/uniform" "$runs/binary" "$runs/center"
