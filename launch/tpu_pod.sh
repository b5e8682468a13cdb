#!/usr/bin/env bash
# One run on all hosts of a Cloud TPU slice:
#
#   ZONE=us-central2-b launch/tpu_pod.sh TPU_NAME --config=configs/nofrost_r50.py --workdir=DIR
#
# Every host needs a checkout of this repository at ~/nofrost_jax (or FOLDER), with its requirements and jax[tpu]
# installed. DIR must be a folder that all hosts share, such as a mounted bucket, or gs://BUCKET/PATH. Exit code 75 means
# that the slice was preempted and the state is saved: run the same command again.
set -eu

if (($# < 2)) || [[ -z ${ZONE-} ]]; then
    echo "usage: ZONE=... launch/tpu_pod.sh TPU_NAME --config=FILE --workdir=DIR ..." >&2
    exit 2
fi
name=$1
shift
printf -v arguments ' %q' "$@"
exec gcloud compute tpus tpu-vm ssh "$name" --zone="$ZONE" --worker=all \
    --command="cd ${FOLDER:-nofrost_jax} && python main.py$arguments --coordinator_address=auto"
