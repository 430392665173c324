#!/bin/sh
# ResNet-18 and EfficientNet-B0 of torchvision from random weights, one-hot alone and with the hue term: a short run, of
# small images. Goes on where it was stopped; in an environment with torchvision, as `make test-networks` makes one.
#
#     sh experiments/networks_training.sh IMAGES RUNS
#
# Learning rate and weight decay are the defaults (1e-3 and 0) for all, tuned for none.
set -eu
images=$1 runs=$2

train() { # train NAME OPTION...
    name=$1
    shift
    pyhue train "$images" --out "$runs/$name" --image-size 32 --epochs 5 --folds-run "$folds" "$@"
}

for folds in 1 2 3; do
    for network in resnet18 efficientnet_b0; do
        train $network-onehot --backbone torchvision:$network --loss onehot
        train $network-hue --backbone torchvision:$network
        train $network-hue-1 --backbone torchvision:$network --hue-scale 1
    done
done
for network in resnet18 efficientnet_b0; do
    pyhue compare "$runs/$network-onehot" "$runs/$network-hue" "$runs/$network-hue-1"
done
