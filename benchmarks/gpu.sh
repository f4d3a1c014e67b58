#!/bin/sh
# Everything that needs a GPU, in under 30 minutes on one, without Ray and without a network:
#
#     sh benchmarks/gpu.sh [full|tiny] [cuda|cpu]        prints what goes into the documents; the exit status is the tests'
#
# `tiny cpu` runs every line in a few minutes on two cores, to see that the commands are right.
# Each part has its own limit, so that one that hangs leaves time for the others.
set -u
size=${1:-full}
device=${2:-cuda}
cd "$(dirname "$0")/.." || exit 2
PYTHONPATH=core:generate:train:pipelines:benchmarks${PYTHONPATH:+:$PYTHONPATH}
HF_HUB_OFFLINE=1
export PYTHONPATH HF_HUB_OFFLINE
python=${PYTHON:-python}
status=0

part() { # part LIMIT TITLE COMMAND...: seconds it may take, what it is
    limit=$1 title=$2
    shift 2
    echo
    echo "== $title"
    begun=$(date +%s)
    timeout "$limit" "$@"
    code=$?
    echo "-- exit $code after $(($(date +%s) - begun)) s"
    [ $code -eq 0 ] || status=1
}

if [ "$device" = cuda ]; then
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader
fi
part 60 "platform" "$python" -c "
import torch
from ppcore.platforms import this_platform
print(this_platform(torch.device('$device')))"

part 300 "tests" "$python" -m pytest tests/gpu -q -rs -p no:xdist

if [ "$size" = full ]; then
    # Random weights in the genuine shapes; stock pipeline and ours in turns, against the ceiling of the arithmetic.
    part 420 "DiT-XL/2-256 at 20 steps beside DiTPipeline" "$python" benchmarks/generators.py \
        --size full --device "$device" --only dit --steps 20 --batch 64 --rounds 3
    part 300 "SiT-XL/2-256 at 20 steps beside its plain loop" "$python" benchmarks/generators.py \
        --size full --device "$device" --only sit --steps 20 --batch 64 --rounds 3
    part 300 "VAR-d16 beside its plain loop" "$python" benchmarks/generators.py \
        --size full --device "$device" --only var --batch 64 --rounds 3
    part 150 "BigGAN-deep-256 beside the published code, batch 128" "$python" benchmarks/generators.py \
        --size full --device "$device" --only biggan --batch 128 --rounds 3
    part 150 "consistency model of ImageNet-64 in one step, batch 256" "$python" benchmarks/generators.py \
        --size full --device "$device" --only consistency --batch 256 --rounds 3
    part 240 "trainer's step beside timm's parts" "$python" benchmarks/gpu/train_gpu.py --device "$device"
    part 240 "the same, ours compiled" "$python" benchmarks/gpu/train_gpu.py --device "$device" --compile
    part 150 "what --reproducible costs" "$python" benchmarks/gpu/reproducible.py --device "$device" --size full
else
    part 300 "DiT beside DiTPipeline" "$python" benchmarks/generators.py \
        --size small --device "$device" --only dit --steps 2 --batch 1 --rounds 1
    part 150 "SiT beside its plain loop" "$python" benchmarks/generators.py \
        --size small --device "$device" --only sit --steps 2 --batch 1 --rounds 1
    part 300 "VAR beside its plain loop" "$python" benchmarks/generators.py \
        --size small --device "$device" --only var --batch 1 --rounds 1
    part 150 "BigGAN-deep" "$python" benchmarks/generators.py \
        --size small --device "$device" --only biggan --batch 1 --rounds 1
    part 150 "consistency model" "$python" benchmarks/generators.py \
        --size small --device "$device" --only consistency --batch 1 --rounds 1
    part 150 "trainer" "$python" benchmarks/gpu/train_gpu.py --smoke --device "$device"
    part 150 "what --reproducible costs" "$python" benchmarks/gpu/reproducible.py --device "$device" --size small
fi
echo
echo "exit status $status"
exit $status
